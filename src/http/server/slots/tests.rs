use std::net::Ipv4Addr;

use futures_util::FutureExt as _;

use super::*;

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(number))
}

fn slots(served: usize, reserved: usize, per_address: Option<u32>) -> Arc<Slots> {
    Slots::with_bounds(served, [reserved; 2], per_address, Arc::new(|peer| peer == address(1)))
}

fn is_shed(slot: &Slot) -> bool {
    slot.shed().now_or_never().is_some()
}

#[test]
fn connections_are_counted_per_address_and_proxies_are_exempt() {
    let slots = slots(100, 8, Some(3));
    let of = |number, count| {
        let admit = |_| slots.find(address(number)).ok().inspect(|slot| slot.work());
        (0..count).map(admit).collect::<Vec<_>>()
    };
    let classes = |held: &[Option<Arc<Slot>>]| held.iter().flatten().map(|slot| slot.class()).collect::<Vec<_>>();
    let held = of(2, 11);
    assert_eq!(classes(&held), [vec![SlotClass::Served; 3], vec![SlotClass::OverAddress; 8]].concat());
    assert_eq!(classes(&of(3, 1)), [SlotClass::Served]);
    assert_eq!(classes(&of(1, 20)), [SlotClass::Served; 20]);
    drop(held);
    assert_eq!(classes(&of(2, 1)), [SlotClass::Served]);
    assert!(slots.addresses.is_empty() && slots.served.waiting.lock().is_empty());
    assert_eq!((slots.served.open.load(Relaxed), slots.over_address.open.load(Relaxed)), (0, 0));
}

#[test]
fn address_at_its_limit_replaces_one_of_its_idle_connections() {
    let slots = slots(100, 8, Some(2));
    let other = slots.find(address(3)).unwrap();
    let [first, second] = [2, 2].map(|number| slots.find(address(number)).unwrap());
    let third = slots.find(address(2)).unwrap();
    assert_eq!(third.class(), SlotClass::Served);
    assert_eq!([&other, &first, &second].map(|slot| is_shed(slot)), [false, true, false]);
    [&second, &third].into_iter().for_each(|slot| slot.work());
    assert_eq!(slots.find(address(2)).unwrap().class(), SlotClass::OverAddress);
}

#[test]
fn longest_idle_connection_is_closed_and_busy_ones_stay() {
    let slots = slots(3, 2, None);
    let [first, second, third] = [2, 3, 4].map(|number| slots.find(address(number)).unwrap());
    first.work();
    second.work();
    second.wait();
    let fourth = slots.find(address(5)).unwrap();
    assert_eq!(fourth.class(), SlotClass::Served);
    assert_eq!([&first, &second, &third].map(|slot| is_shed(slot)), [false, false, true]);
    drop(third);
    [&second, &fourth].into_iter().for_each(|slot| slot.work());
    let reserved = [6, 7].map(|number| slots.find(address(number)).unwrap());
    assert_eq!([reserved[0].class(), reserved[1].class()], [SlotClass::OverNode; 2]);
    // The next connection in a reserved slot replaces the one that has been idle longest in such a slot.
    let newest = slots.find(address(8)).unwrap();
    assert_eq!(newest.class(), SlotClass::OverNode);
    assert!(is_shed(&reserved[0]) && !is_shed(&reserved[1]) && !is_shed(&first));
    let busy = [&reserved[1], &newest];
    busy.into_iter().for_each(|slot| slot.work());
    assert!(matches!(slots.find(address(9)), Err(SlotClass::OverNode)));
}

#[test]
fn address_above_its_limit_uses_no_reserved_slot_of_the_node() {
    let slots = slots(4, 2, Some(2));
    let admit = |number| slots.find(address(number)).ok().inspect(|slot| slot.work());
    let flood: Vec<_> = (0..20).filter_map(|_| admit(2)).collect();
    assert_eq!(flood.len(), 4, "its two, and the reserved ones of addresses");
    let others: Vec<_> = (3..5).filter_map(admit).collect();
    assert!(others.iter().all(|slot| slot.class() == SlotClass::Served) && others.len() == 2);
    // The node is now at its limit.
    assert_eq!(admit(5).map(|slot| slot.class()), Some(SlotClass::OverNode));
}

#[tokio::test(start_paused = true)]
async fn few_connections_wait_for_a_slot_of_the_node() {
    let slots = slots(1, 1, None);
    let held = [2, 3].map(|number| {
        let slot = slots.find(address(number)).unwrap();
        slot.work();
        slot
    });
    let mut queue: Vec<_> = (0..QUEUE).map(|_| slots.admit(address(4))).collect();
    assert!(queue.iter().all(|admission| matches!(admission, SlotAdmission::Later(_))));
    assert!(matches!(slots.admit(address(4)), SlotAdmission::Never));
    let Some(SlotAdmission::Later(first)) = queue.pop() else { panic!("a place in the queue") };
    let waiting = tokio::spawn(first.admit());
    tokio::task::yield_now().await;
    let [_served, reserved] = held;
    drop(reserved);
    assert_eq!(waiting.await.unwrap().map(|slot| slot.class()), Some(SlotClass::OverNode));
    let Some(SlotAdmission::Later(second)) = queue.pop() else { panic!("a place in the queue") };
    drop(queue);
    assert!(matches!(slots.admit(address(4)), SlotAdmission::Now(_)));
    drop(second);
    assert_eq!(slots.queued.load(Relaxed), 0);
}

#[test]
fn a_quarter_of_the_descriptors_is_left_to_the_rest_of_the_process() {
    let limit = |descriptors| Slots::new(descriptors, None, Arc::new(|_| false)).served.limit;
    assert_eq!([limit(1_024), limit(65_536), limit(100)], [768, 64_512, 1]);
}

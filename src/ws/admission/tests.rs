use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::task::unconstrained;

use super::*;

type Entering = BoxFuture<'static, Result<JoinPermit, Overloaded>>;

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// Creates an admission and takes all its permits.
fn full(max_waiting: usize) -> (Arc<Admission>, Vec<JoinPermit>) {
    let admission = Admission::new(max_waiting, Rng::from_seed(1));
    let places =
        (0..JOINS).map(|_| enter(&admission, 0, JoinClass::Fresh).now_or_never().unwrap().ok().unwrap()).collect();
    (admission, places)
}

fn enter(admission: &Arc<Admission>, from: u8, class: JoinClass) -> Entering {
    let admission = admission.clone();
    // A test polls many joins in one poll of its own task, so the joins must not use up the cooperative budget of the
    // task.
    unconstrained(async move { admission.enter(address(from), class).await }).boxed()
}

/// Adds a join to the queue.
fn wait(admission: &Arc<Admission>, from: u8, class: JoinClass) -> Entering {
    let mut entering = enter(admission, from, class);
    assert!((&mut entering).now_or_never().is_none(), "no place to wait for {from}");
    entering
}

fn is_refused(entering: &mut Entering) -> bool {
    matches!(entering.now_or_never(), Some(Err(_)))
}

fn waiting(admission: &Admission) -> usize {
    admission.state.lock().waiting()
}

/// Releases the permits one by one. Returns the waiters that received a permit, in order.
fn served(places: &mut Vec<JoinPermit>, queue: &mut [(char, Entering)]) -> String {
    let mut order = String::new();
    for place in std::mem::take(places).into_iter().take(queue.len()) {
        drop(place);
        for (name, entering) in queue.iter_mut().filter(|(name, _)| !order.contains(*name)) {
            if let Some(Ok(place)) = entering.now_or_never() {
                order.push(*name);
                std::mem::forget(place);
                break;
            }
        }
    }
    order
}

#[tokio::test]
async fn permits_are_granted_in_order_of_arrival_and_all_are_released() {
    let (admission, mut places) = full(8);
    let mut queue: Vec<_> = "abc".chars().map(|name| (name, wait(&admission, 1, JoinClass::Fresh))).collect();
    assert_eq!(served(&mut places, &mut queue), "abc");
    let (admission, places) = full(8);
    let entering = wait(&admission, 1, JoinClass::Fresh);
    drop(places);
    let place = entering.await.ok().unwrap();
    assert_eq!(waiting(&admission), 0);
    assert_eq!(admission.state.lock().running, 1);
    drop(place);
    assert_eq!(admission.state.lock().running, 0);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_spreads_the_time_to_retry() {
    let (admission, _places) = full(8);
    let _queue: Vec<_> = (0..8).map(|_| wait(&admission, 1, JoinClass::Fresh)).collect();
    let mut hints = Vec::new();
    for _ in 0..20_000 {
        let Some(Err(Overloaded { retry })) = enter(&admission, 1, JoinClass::Fresh).now_or_never() else {
            panic!("not refused");
        };
        hints.push(retry);
    }
    assert_eq!(waiting(&admission), 8);
    assert!(hints.iter().all(|hint| *hint >= MIN_RETRY && *hint <= MAX_RETRY * 3 / 2));
    // One join takes 200 ms, and 256 joins run concurrently. The expected delay is 0.8 s for the thousandth rejected
    // join and 9.4 s for the twelve-thousandth. Randomisation adds a quarter on average.
    let mean = |hints: &[Duration]| hints.iter().sum::<Duration>() / hints.len() as u32;
    assert!(mean(&hints[..1_000]) < Duration::from_millis(1_400));
    let later = mean(&hints[11_500..12_500]);
    assert!(later > Duration::from_secs(10) && later < Duration::from_secs(13), "{later:?}");
    let different: BTreeSet<_> = hints[11_500..12_500].iter().map(Duration::as_millis).collect();
    assert!(different.len() > 500, "{}", different.len());
}

#[tokio::test]
async fn a_single_address_uses_the_whole_queue_and_shares_it_with_others() {
    let (admission, mut places) = full(8);
    let mut many: Vec<_> = (0..8).map(|_| wait(&admission, 1, JoinClass::Fresh)).collect();
    let other = wait(&admission, 2, JoinClass::Fresh);
    // The new join displaces the last waiter of the address with the most waiters.
    assert!(is_refused(&mut many[7]) && !is_refused(&mut many[6]));
    let more: Vec<_> = (0..3).map(|_| wait(&admission, 2, JoinClass::Fresh)).collect();
    assert!(is_refused(&mut many[4]) && !is_refused(&mut many[3]));
    assert!(is_refused(&mut enter(&admission, 2, JoinClass::Fresh)), "they have as many each");
    assert_eq!(waiting(&admission), 8);
    // The addresses are served in turn, although all joins of the first address arrived earlier.
    let mut queue: Vec<_> =
        "abcd".chars().zip(many).chain("wxyz".chars().zip([other].into_iter().chain(more))).collect();
    assert_eq!(served(&mut places, &mut queue), "awbxcydz");
}

#[tokio::test]
async fn new_guests_do_not_displace_reconnecting_clients() {
    let (admission, mut places) = full(8);
    let mut fresh: Vec<_> = (1..9).map(|from| wait(&admission, from, JoinClass::Fresh)).collect();
    let established: Vec<_> = (11..15).map(|from| wait(&admission, from, JoinClass::Established)).collect();
    assert_eq!(fresh.iter_mut().filter_map(|entering| is_refused(entering).then_some(())).count(), 4);
    // Each class occupies half of the queue, so neither displaces the other.
    assert!(is_refused(&mut enter(&admission, 15, JoinClass::Established)));
    assert!(is_refused(&mut enter(&admission, 16, JoinClass::Fresh)));
    assert_eq!(waiting(&admission), 8);
    // The classes receive permits alternately.
    drop(places.pop());
    drop(places.pop());
    let served_of = |entering: Vec<Entering>| {
        entering.into_iter().filter_map(|entering| entering.now_or_never()?.ok().map(std::mem::forget)).count()
    };
    assert_eq!(served_of(established), 1);
}

#[tokio::test]
async fn a_cancelled_join_leaves_the_queue() {
    let (admission, places) = full(8);
    let (first, gone, last) = (
        wait(&admission, 1, JoinClass::Fresh),
        wait(&admission, 2, JoinClass::Fresh),
        wait(&admission, 1, JoinClass::Fresh),
    );
    drop((first, gone));
    assert_eq!(waiting(&admission), 1);
    assert_eq!(admission.state.lock().queues[1].turns, [address(1)]);
    // The last waiter received a permit, but it is cancelled before it is polled.
    drop(places);
    drop(last);
    let state = admission.state.lock();
    assert_eq!((state.running, state.waiting(), state.queues[1].addresses.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_longer_than_the_limit() {
    let (admission, _places) = full(8);
    let began = Instant::now();
    assert!(wait(&admission, 1, JoinClass::Fresh).await.is_err());
    assert_eq!(began.elapsed().as_secs(), WAIT_TIMEOUT.as_secs());
    assert_eq!(waiting(&admission), 0);
}

#[tokio::test(start_paused = true)]
async fn a_join_delayed_by_a_store_yields_to_the_next_within_a_bound() {
    let (admission, mut places) = full(1_000);
    let mut queue: Vec<_> = (0..JOINS).map(|_| wait(&admission, 1, JoinClass::Fresh)).collect();
    places.iter_mut().for_each(JoinPermit::yield_to_next);
    let running: Vec<_> = queue.iter_mut().filter_map(|entering| entering.now_or_never()?.ok()).collect();
    assert_eq!(running.len(), SLOW_JOINS);
    assert_eq!(admission.state.lock().slow, SLOW_JOINS);
    assert_eq!(admission.state.lock().running, JOINS);
    drop(queue);
    drop((places, running));
    let state = admission.state.lock();
    assert_eq!((state.running, state.slow), (0, 0));
}

//! Tests the effects of periodic jobs on users (SPEC 6).

use serde_json::json;

use crate::support::{Room, TestApp, eventually};
use crate::with_topology;

with_topology! {
    #[embedded]
    #[clusters]
    async fn idle_room_is_closed_for_all_participants_and_purged_later(topology) {
        let app = TestApp::start_with(topology, &["--idle-close", "2s", "--message-retention", "3s"]).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(&app, a, &host).await;
        let mut guest = room.join(a).await;
        let said = guest.send_text("anybody there?").await;
        let mut host_socket = host.join(b, &room).await;
        assert_eq!(host_socket.frame().await["data"], json!([said]));
        for client in [&mut guest, &mut host_socket] {
            let notice = client.frame().await;
            assert_eq!((&notice["type"], &notice["message"]), (&json!("notice"), &json!("closed")), "{notice}");
            assert_eq!(client.close_code().await, 1000);
        }
        let listed = host.listed(b, &room).await.expect("a room");
        assert_eq!(listed["isClosed"], true);
        let path = format!("{}chat-messages/", host.path_of(b, &room).await);
        eventually("its messages are gone", async || {
            let (listed, messages) = (host.listed(b, &room).await?, host.get(b, &path).await);
            (listed["latestMsg"].is_null() && messages["count"] == 0 && messages["results"] == json!([])).then_some(())
        })
        .await;
        let mut guest = room.join(b).await;
        guest.nothing().await;
        assert_eq!(guest.send_text("again").await["seq"], 2);
        guest.leave().await;
        app.stop().await;
    }
}

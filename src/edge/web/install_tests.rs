//! Journeys that begin at the third party: where they end, what is kept on the way, and what is never exchanged.

use super::Arrived;
use crate::edge::web::staff::{cookie_line, person, with_operators};
use crate::edge::web::testing::{CALLBACK, PUBLIC, Room, Script, settings};

fn room(groups: &[&str]) -> Room {
    Room::open(with_operators(person("ann", groups)), Script::default())
}

/// Both cookies in one line.
fn with(cookie: &str, more: &str) -> String {
    let (first, second) = (cookie.trim_end(), more.trim_start_matches("Cookie: "));
    format!("{first}; {second}")
}

#[tokio::test]
async fn what_arrives_is_kept_through_the_sign_in_and_finds_its_organization() {
    let room = room(&["secops", "globex-admins"]);
    let arrival = room.get("/install/github?account=globex-8&code=stolen&state=theirs").await;
    assert_eq!((arrival.status, arrival.header("location")), (303, "/install/github"));
    assert!(arrival.header("set-cookie").starts_with("__Secure-grantd-install="));
    assert!(arrival.header("set-cookie").contains("Path=/install;"));
    let kept = cookie_line(&arrival);
    let page = room.send("GET", "/install/github", &kept, "").await;
    assert_eq!((page.status, page.code()), (401, "not_signed_in"));
    assert!(page.body.contains("name=\"next\" value=\"/install/github\""), "{}", page.body);
    let browser = room.sign_in().await;
    let both = with(&browser.cookie, &kept);
    let page = room.send("GET", "/install/github", &both, "").await;
    assert_eq!(page.status, 200);
    assert!(
        page.body.contains("value=\"globex-github\" required checked")
            && !page.body.contains("value=\"github-2\"")
    );
    assert!(page.body.contains("globex-8") && !page.body.contains("stolen") && !page.body.contains("theirs"));
    let other = room.send("POST", "/install/github", &both, &browser.form("&integration=github")).await;
    assert_eq!((other.status, other.code()), (400, "invalid_request"));
    let away = room.send("POST", "/install/github", &both, &browser.form("&integration=globex-github")).await;
    assert_eq!(away.status, 200);
    assert!(away.body.contains("https://github.example/authorize"));
    assert_eq!(room.asked(), ["start globex-github [] ", "confirm minted for sub-ann"]);
}

#[tokio::test]
async fn an_operator_chooses_where_nothing_points_and_cannot_reach_further() {
    let room = room(&["secops"]);
    let browser = room.sign_in().await;
    let page = room.send("GET", "/install/github", &browser.cookie, "").await;
    assert!(
        page.body.contains("value=\"github\" required>")
            && page.body.contains("value=\"github-2\" required>")
    );
    assert!(!page.body.contains("globex"));
    let arrival = room.get("/install/github?account=globex-8").await;
    let both = with(&browser.cookie, &cookie_line(&arrival));
    let page = room.send("GET", "/install/github", &both, "").await;
    assert_eq!((page.status, page.code()), (403, "not_an_admin"));
    for form in [browser.form("&integration=globex-github"), browser.form(""), "integration=github".into()] {
        let told = room.send("POST", "/install/github", &browser.cookie, &form).await;
        assert!(told.status == 400 || told.status == 403, "{form}");
    }
    let nowhere = room.send("GET", "/install/slack", &browser.cookie, "").await;
    assert_eq!((nowhere.status, nowhere.code()), (404, "integration_not_found"));
    assert_eq!(room.asked(), [""; 0]);
}

#[tokio::test]
async fn a_code_without_a_state_of_ours_begins_afresh() {
    let room = room(&["secops"]);
    let afresh = room.get(&format!("{CALLBACK}/github?code=stolen&installation_id=5")).await;
    assert_eq!((afresh.status, afresh.header("location")), (303, "/install/github"));
    assert!(!afresh.headers.iter().any(|(_, value)| value.to_str().unwrap().contains("stolen")));
    assert_eq!(room.asked(), [""; 0]);
    // A state that is there is judged, whatever it is; and where nobody can sign in, there is no fresh start.
    room.get(&format!("{CALLBACK}/github?code=c&state=theirs")).await;
    let plain = Room::open(settings(PUBLIC), Script::default());
    plain.get(&format!("{CALLBACK}/github?code=c")).await;
    assert_eq!((room.asked().len(), plain.asked().len()), (1, 1));
}

#[test]
fn what_arrives_is_bounded_and_survives_the_cookie() {
    let arrived = Arrived::of("a=1&code=x&state=y&error=z&b=%3Cb%3E&c=");
    assert_eq!(arrived.pairs.len(), 3);
    assert_eq!(Arrived::kept(Some(&arrived.text())), arrived);
    assert_eq!(Arrived::kept(Some("not base64!")), Arrived::default());
    let many: String = (0..100).map(|number| format!("k{number}=v&")).collect();
    assert_eq!(Arrived::of(&many).pairs.len(), 16);
    assert!(Arrived::of(&format!("a={}", "x".repeat(5000))).pairs.is_empty());
}

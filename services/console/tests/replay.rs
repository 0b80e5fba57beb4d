//! Dead letters are sent again only by a person on a page of the console, after a question.

#![allow(clippy::unwrap_used)]

mod common;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use common::{Browser, Plant, letter};

const OURS: &str = "http://127.0.0.1:9464";

fn browser() -> Browser {
    let browser = Plant::new().browser();
    *browser.switches.letters.lock().unwrap() = vec![letter(1, b"{"), letter(2, b"{")];
    browser
}

/// The token of a page's form.
async fn token(browser: &Browser, path: &str) -> String {
    let page = browser.page(path).await;
    page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_question_comes_first_and_looking_at_it_sends_nothing() {
    let browser = browser();
    let page = browser.page("/replay?topic=mantis.readings&reason=broken-json").await;
    assert!(
        page.contains("<strong>2</strong> refused records of the topic mantis.readings with the reason broken-json"),
        "{page}"
    );
    assert!(page.contains("Back, send nothing"));
    assert!(browser.switches.replayed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_form_sends_what_its_question_named() {
    let browser = browser();
    let token = token(&browser, "/replay?position=mantis.readings%2F0%2F2").await;
    let form = format!("token={token}&topic=&reason=&position=mantis.readings%2F0%2F2");
    let (status, page) = browser.post("/replay", OURS, &form).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    assert!(page.contains("<strong>1</strong> record is in its topic again"), "{page}");
    let replayed = browser.switches.replayed.lock().unwrap();
    assert_eq!(replayed.len(), 1);
    assert_eq!((replayed[0].topic.clone(), replayed[0].position.as_deref()), (None, Some("mantis.readings/0/2")));
}

#[tokio::test]
async fn a_name_that_somebody_else_points_here_is_not_answered() {
    let browser = browser();
    for (host, status) in [("rebound.example", StatusCode::FORBIDDEN), ("127.0.0.1:9464", StatusCode::OK)] {
        let request = Request::get("/replay").header("host", host).body(Body::empty()).unwrap();
        let (found, _, body) = browser.ask(request).await;
        assert_eq!(found, status, "{host}");
        assert_eq!(body.contains("name=\"token\""), status == StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn forms_of_other_pages_and_without_the_token_are_refused_and_send_nothing() {
    let browser = browser();
    let token = token(&browser, "/replay").await;
    for (origin, form) in [
        ("http://evil.example", format!("token={token}")),
        ("null", format!("token={token}")),
        (OURS, "token=".to_owned()),
        (OURS, "token=guessed".to_owned()),
    ] {
        let (status, page) = browser.post("/replay", origin, &form).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{origin} {form}");
        assert!(page.contains("Nothing was sent"), "{page}");
    }
    let (status, _) = browser.post("/replay", OURS, &format!("token={}", "x".repeat(100_000))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(browser.switches.replayed.lock().unwrap().is_empty());
}

//! What the pages say of stores with something in them, with nothing, and with trouble.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use common::{MORNING_NS, Plant, SECOND_NS, letter, minute, worker};
use mantis_console::{ASSETS_SHOWN_MAX, READINGS_MAX, SENSORS_SHOWN_MAX, WorkerState, letters::RECORDS_SHOWN_MAX};
use mantis_schemas::Quality::{self, Bad, Good, Uncertain};

const ODD: &str = "<script>alert('x')</script> \u{202e}مضخة/../&?#\"";
const ODD_QUERY: &str = "%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E%20%E2%80%AE%D9%85%D8%B6%D8%AE%D8%A9%2F..%2F%26%3F%23%22";

/// Readings of a second each.
fn seconds(count: i64) -> Vec<(&'static str, &'static str, i64, f64, Quality)> {
    (0..count).map(|second| ("pump-7", "flow", MORNING_NS + second * SECOND_NS, second as f64, Good)).collect()
}

/// Every page, with whatever the store has.
const PAGES: [&str; 5] = ["/", "/assets", "/letters", "/replay", "/health"];

#[tokio::test]
async fn without_data_every_page_is_whole_and_says_how_to_send_some() {
    let browser = Plant::new().browser();
    for path in PAGES {
        browser.page(path).await;
    }
    assert!(browser.page("/").await.contains("mantis replay --mapping"));
    assert!(browser.page("/assets").await.contains("127.0.0.1:9092"));
    assert!(browser.page("/letters").await.contains("everything that came could be stored"));
}

#[tokio::test]
async fn the_overview_says_in_words_what_each_worker_does() {
    let browser = Plant::new().with_readings(&seconds(3)).await.browser();
    let mut troubled = worker("features", WorkerState::Retrying);
    troubled.troubles.push(("source".into(), "<Kafka> is away".into()));
    troubled.topics[0].dead_letters = 3;
    *browser.switches.workers.lock().unwrap() = vec![worker("raw", WorkerState::Running), troubled];
    let page = browser.page("/").await;
    for said in [
        "1 of 2",
        ">running<",
        ">retrying<",
        "&#60;Kafka&#62; is away",
        "12\u{202f}345",
        "1\u{202f}000\u{202f}000",
        "432",
        "class=\"attention\">3</a>",
    ] {
        assert!(page.contains(said), "{said}\n{page}");
    }
}

#[tokio::test]
async fn names_of_any_kind_are_escaped_linked_and_found_again() {
    let rows = [(ODD, ODD, MORNING_NS, 1.0, Good), ("..", ".", MORNING_NS, 2.0, Good)];
    let browser = Plant::new().with_readings(&rows).await.browser();
    let assets = browser.page("/assets").await;
    assert!(!assets.contains("<script>alert") && !assets.contains('\u{202e}'), "{assets}");
    assert!(assets.contains("‹U+202E›مضخة"));
    let asset = format!("/asset?name={ODD_QUERY}");
    assert!(assets.contains(&asset), "{assets}");
    let sensor = format!("/sensor?asset={ODD_QUERY}&#38;sensor={ODD_QUERY}");
    assert!(browser.page(&asset).await.contains(&sensor));
    let page = browser.page(&sensor.replace("&#38;", "&")).await;
    assert!(!page.contains("<script>alert") && page.contains("<strong>1</strong>"), "{page}");
    assert!(browser.page("/sensor?asset=..&sensor=.").await.contains("<strong>2</strong>"));
}

#[tokio::test]
async fn what_nobody_has_sent_is_not_found() {
    let browser = Plant::new().with_readings(&seconds(1)).await.browser();
    for path in [
        "/asset?name=pump-8",
        "/asset?name=",
        "/sensor?asset=pump-7&sensor=temperature",
        "/sensor?asset=flow&sensor=pump-7",
        "/letter?position=mantis.readings/0/99",
        "/nothing",
        "/assets/pump-7",
    ] {
        assert_eq!(browser.status(path).await, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/asset", "/sensor?asset=pump-7", "/sensor?asset=pump-7&sensor=flow&period=2h", "/letter"] {
        assert_eq!(browser.status(path).await, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn assets_are_filtered_by_their_name_or_a_sensor_and_shown_in_pages() {
    let names: Vec<String> = (0..=ASSETS_SHOWN_MAX).map(|number| format!("asset-{number:03}")).collect();
    let mut rows: Vec<_> = names.iter().map(|name| (name.as_str(), "x", MORNING_NS, 1.0, Good)).collect();
    rows.push(("Kälteanlage", "Druck", MORNING_NS, 1.0, Good));
    let browser = Plant::new().with_readings(&rows).await.browser();
    let first = browser.page("/assets").await;
    assert!(first.contains(&format!("{ASSETS_SHOWN_MAX} of {}", names.len() + 1)), "{first}");
    assert!(first.contains("after=asset-098"), "the page ends with 100 of them, an upper-case name first: {first}");
    let next = browser.page("/assets?q=&after=asset-098").await;
    assert!(next.contains("asset-099") && next.contains("asset-100") && !next.contains("asset-098</bdi>"));
    for q in ["k%C3%A4lte", "DRUCK"] {
        let found = browser.page(&format!("/assets?q={q}")).await;
        assert!(found.contains("Kälteanlage") && !found.contains("asset-000"), "{q}");
    }
    assert!(browser.page("/assets?q=%3Cb%3E").await.contains("has “&#60;b&#62;” in its name"));
}

#[tokio::test]
async fn an_asset_shows_the_latest_of_each_sensor_with_unit_quality_and_age() {
    let mut rows = seconds(300);
    rows.push(("pump-7", "temperature", MORNING_NS, -12.5, Uncertain));
    let browser = Plant::new().with_readings(&rows).await.with_frame("pump-7", "vibration", &[1.0, 2.0], 1_000.0).await.browser();
    let page = browser.page("/asset?name=pump-7").await;
    for said in
        ["299", "m3/h", ">uncertain<", "-12.5", "no unit is declared", "2 samples", "class=\"spark\"", "2026-09-01 00:04:59 UTC"]
    {
        assert!(page.contains(said), "{said}\n{page}");
    }
}

#[tokio::test]
async fn sensors_of_an_asset_are_shown_in_pages() {
    let names: Vec<String> = (0..=SENSORS_SHOWN_MAX).map(|number| format!("s{number:03}")).collect();
    let rows: Vec<_> = names.iter().map(|name| ("pump", name.as_str(), MORNING_NS, 1.0, Good)).collect();
    let browser = Plant::new().with_readings(&rows).await.browser();
    let page = browser.page("/asset?name=pump").await;
    assert!(page.contains(&format!("{SENSORS_SHOWN_MAX} of {}", names.len())) && !page.contains("s050</bdi>"));
    let next = browser.page("/asset?name=pump&after=s049").await;
    assert!(next.contains("s050</bdi>") && !next.contains("s049</bdi>"));
}

#[tokio::test]
async fn a_sensor_shows_its_readings_their_quality_and_how_well_it_keeps_time() {
    let mut rows = seconds(120);
    rows.retain(|(_, _, time_ns, ..)| !(60..90).contains(&((time_ns - MORNING_NS) / SECOND_NS)));
    rows[10].3 = 1e6;
    rows[20].4 = Bad;
    rows[21].4 = Uncertain;
    let browser = Plant::new().with_readings(&rows).await.browser();
    let page = browser.page("/sensor?asset=pump-7&sensor=flow").await;
    for said in [
        "Readings from 0 to 1000000 m3/h, 90 of them",
        "<rect class=\"bad\"",
        "<rect class=\"uncertain\"",
        ">88</dd>",
        "1, the longest 31 s",
        "250 ms",
        "median step",
        ">17</dd>",
        "partitioner=murmur2_random",
        "2026-09-01 00:01:59 UTC",
        "Last 30 of 90 readings",
        "value=\"2026-09-01T00:00:00\"",
    ] {
        assert!(page.contains(said), "{said}\n{page}");
    }
    let path = page.split("class=\"line\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(path.matches('M').count() >= 2, "the line breaks at the gap: {path}");
}

#[tokio::test]
async fn a_period_can_be_chosen_and_one_without_readings_says_so() {
    let browser = Plant::new().with_readings(&seconds(7_200)).await.browser();
    let page = |query: &str| {
        let path = format!("/sensor?asset=pump-7&sensor=flow&{query}");
        let browser = &browser;
        async move { browser.page(&path).await }
    };
    assert!(page("period=1h").await.contains("3\u{202f}601"));
    assert!(page("period=all").await.contains("7\u{202f}200"));
    let between = page("from=2026-09-01T00:10&to=2026-09-01T00:20").await;
    assert!(between.contains("Readings from 600 to 1199 m3/h, 600 of them"), "{between}");
    assert!(page("from=2027-01-01T00:00").await.contains("No reading in this period"));
}

#[tokio::test]
async fn more_readings_than_a_page_looks_at_are_cut_and_the_page_says_where_to_go_on() {
    let count = READINGS_MAX as i64 + 10;
    let rows: Vec<_> = (0..count).map(|ms| ("a", "b", MORNING_NS + ms * 1_000_000, ms as f64, Good)).collect();
    let browser = Plant::new().with_readings(&rows).await.browser();
    let page = browser.page("/sensor?asset=a&sensor=b&period=all").await;
    assert!(page.contains("Only the first 300\u{202f}000 readings are shown, up to 2026-09-01 00:05:00 UTC."), "{page}");
    assert!(page.contains("from=2026-09-01T00%3A05%3A00"));
    assert!(page.len() < 200_000, "{} bytes", page.len());
}

#[tokio::test]
async fn features_show_their_figures_or_why_there_is_none_and_what_is_provisional() {
    let rows: Vec<_> = (0..5).map(|at| ("pump-7", "flow", minute(at, (at != 2).then_some(at as f64), at == 4))).collect();
    let browser = Plant::new().with_readings(&seconds(300)).await.with_features(&rows).await.browser();
    let page = browser.page("/sensor?asset=pump-7&sensor=flow").await;
    for said in [
        "mean of windows of 1m: from 0 to 4 m3/h",
        "<tr class=\"provisional\">",
        ">provisional</text>",
        "97.5 %",
        "title=\"beyond the range of a double\">–</span>",
        "title=\"a figure of waveform frames only\">–</span>",
        "The last 5 of 5 windows of 1m",
    ] {
        assert!(page.contains(said), "{said}\n{page}");
    }
    let other = browser.page("/sensor?asset=pump-7&sensor=flow&window=1m&figure=skewness").await;
    assert!(other.contains("No window in this period has this figure (5 windows, 5 without it)"), "{other}");
    assert!(other.contains("<option selected>skewness</option>"));
}

#[tokio::test]
async fn a_waveform_shows_its_samples_and_their_spectrum() {
    let samples: Vec<f64> = (0..2_048).map(|at| (f64::from(at) / 2_048.0 * 50.0 * std::f64::consts::TAU).sin()).collect();
    let browser = Plant::new().with_frame("pump-7", "vibration", &samples, 2_048.0).await.browser();
    let page = browser.page("/sensor?asset=pump-7&sensor=vibration").await;
    for said in [
        "Newest waveform",
        "Spectrum: largest amplitude 1 at 50 Hz",
        "2\u{202f}048",
        "dominant frequency",
        "No features of this sensor yet",
    ] {
        assert!(page.contains(said), "{said}\n{page}");
    }
    let chosen = browser.page(&format!("/sensor?asset=pump-7&sensor=vibration&frame={MORNING_NS}")).await;
    assert!(chosen.contains(">Waveform <small>2026-09-01 00:00:00 UTC"), "{chosen}");
}

#[tokio::test]
async fn a_store_that_fails_costs_its_panel_and_not_the_page() {
    let browser = Plant::new().with_readings(&seconds(60)).await.browser();
    browser.switches.features_fail.store(true, Ordering::Relaxed);
    let page = browser.page("/sensor?asset=pump-7&sensor=flow").await;
    assert!(page.contains("Cannot be shown:</strong> features.db is damaged: &#60;move it away&#62;"), "{page}");
    assert!(page.contains("Readings from 0 to 59 m3/h"), "the rest stays: {page}");
    browser.switches.raw_fails.store(true, Ordering::Relaxed);
    for path in ["/assets", "/asset?name=pump-7", "/sensor?asset=pump-7&sensor=flow"] {
        let page = browser.page(path).await;
        assert!(page.contains("Cannot be shown:</strong> raw.db cannot be used now: check &#60;the disk&#62;"), "{path}\n{page}");
    }
    assert!(browser.page("/health").await.contains("cannot be read: features.db is damaged"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_told_after_a_bounded_wait() {
    let plant = Plant::new().with_readings(&seconds(60)).await;
    let browser = plant.browser();
    browser.switches.raw_is_slow.store(true, Ordering::Relaxed);
    let began = tokio::time::Instant::now();
    let page = browser.page("/sensor?asset=pump-7&sensor=flow").await;
    assert!(page.contains("the raw store did not answer within 5 s"), "{page}");
    assert!(began.elapsed().as_secs() <= 15, "{:?}", began.elapsed());
}

#[tokio::test]
async fn dead_letters_are_listed_newest_and_bounded_with_their_reasons_escaped() {
    let browser = Plant::new().browser();
    let letters = (0..RECORDS_SHOWN_MAX as i64 + 5).map(|offset| letter(offset, b"{"));
    *browser.switches.letters.lock().unwrap() = letters.collect();
    let page = browser.page("/letters").await;
    assert!(page.contains(&format!("the newest {RECORDS_SHOWN_MAX} are shown")), "{page}");
    assert_eq!(page.matches("<tr>").count(), RECORDS_SHOWN_MAX + 1, "a row each and the head");
    assert!(page.contains("<code>broken-json</code>") && page.contains("&#60;b&#62;not&#60;/b&#62; JSON ‹U+202E›"));
    assert!(!page.contains("older ones are not shown"));
    browser.switches.has_older_letters.store(true, Ordering::Relaxed);
    let page = browser.page("/letters").await;
    assert!(page.contains("older ones are not shown, <code>mantis dlq list --from mantis.events.dlq/0/7</code>"), "{page}");
    assert!(browser.page("/replay").await.contains("do this again for the rest"));
}

#[tokio::test]
async fn that_there_are_no_dead_letters_is_said_only_when_all_were_looked_at() {
    let browser = Plant::new().browser();
    assert!(browser.page("/letters").await.contains("everything that came could be stored"));
    assert!(browser.page("/replay").await.contains("There is no refused record to send.</p>"));
    browser.switches.has_older_letters.store(true, Ordering::Relaxed);
    for path in ["/letters", "/letters?reason=late", "/replay"] {
        let page = browser.page(path).await;
        assert!(!page.contains("everything that came could be stored"), "{page}");
        assert!(page.contains("Only the newest dead letters were looked at, 100\u{202f}000 at least"), "{page}");
        assert!(page.contains("mantis dlq list --from mantis.events.dlq/0/7"), "{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_searched_one_question_at_a_time() {
    let browser = Plant::new().browser();
    *browser.switches.letters.lock().unwrap() = vec![letter(1, b"{")];
    browser.switches.letters_are_slow.store(true, Ordering::Relaxed);
    let page = browser.page("/letters").await;
    assert!(page.contains("the search for dead letters in Kafka did not answer within 20 s"), "{page}");
    let page = browser.page("/replay").await;
    assert!(page.contains("the search for dead letters in Kafka is asked too much already"), "{page}");
    let page = browser.page("/letter?position=mantis.readings/0/1").await;
    assert!(page.contains("Refused by mantis-raw"), "a single letter is no search: {page}");
}

#[tokio::test]
async fn a_record_that_several_workers_refused_is_one_row() {
    let browser = Plant::new().browser();
    let mut record = letter(7, b"{");
    let mut other = record.letters[0].clone();
    other.origin.group = "mantis-cache".into();
    record.letters.push(other);
    *browser.switches.letters.lock().unwrap() = vec![record];
    let page = browser.page("/letters").await;
    assert_eq!(page.matches("position=mantis.readings%2F0%2F7").count(), 1, "{page}");
    assert!(page.contains("mantis-raw<br>mantis-cache"), "{page}");
    let page = browser.page("/letter?position=mantis.readings/0/7").await;
    assert!(page.contains("Refused by mantis-raw") && page.contains("Refused by mantis-cache"), "{page}");
    assert_eq!(page.matches("<h3>Value</h3>").count(), 1, "{page}");
}

#[tokio::test]
async fn a_letter_is_shown_whole_as_text_or_in_hexadecimal_digits() {
    let browser = Plant::new().browser();
    *browser.switches.letters.lock().unwrap() =
        vec![letter(1, b"{\"a\": \"<script>\"}"), letter(2, &[0xff, 0, b'A']), letter(3, &[b'x'; 100_000])];
    let text = browser.page("/letter?position=mantis.readings/0/1").await;
    assert!(text.contains("{&#34;a&#34;: &#34;&#60;script&#62;&#34;}") && text.contains("traceparent"), "{text}");
    let hex = browser.page("/letter?position=mantis.readings/0/2").await;
    assert!(hex.contains("000000  ff 00 41") && hex.contains("..A"), "{hex}");
    let long = browser.page("/letter?position=mantis.readings/0/3").await;
    assert!(long.contains("cut here") && long.len() < 80_000, "{}", long.len());
}

#[tokio::test]
async fn health_says_what_is_missing_and_what_to_do() {
    let browser = Plant::new().browser();
    *browser.switches.workers.lock().unwrap() = vec![worker("raw", WorkerState::Running)];
    assert!(browser.page("/health").await.contains(">ready<"));
    *browser.switches.workers.lock().unwrap() = vec![worker("raw", WorkerState::Stopped)];
    let page = browser.page("/health").await;
    for said in [">not ready<", "the raw worker has stopped: &#60;disk&#62;", "then start the process again"] {
        assert!(page.contains(said), "{said}\n{page}");
    }
}

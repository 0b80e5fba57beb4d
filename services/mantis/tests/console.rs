//! The web console of a running `mantis up`, in a real browser.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{
    Up,
    chromium::{Chromium, installed, screenshots},
    run,
};
use mantis_kafka::{ClientConfig, OutRecord, Producer};
use mantis_schemas::topics;
use serde_json::json;

const SCREENS: [(&str, u32, u32); 2] = [("desktop", 1280, 860), ("phone", 390, 844)];
const TAB: u32 = 9;
const ENTER: u32 = 13;

/// Publishes JSON to the topic of readings.
async fn publish(up: &Up, payloads: &[String]) {
    let client = ClientConfig::new(up.brokers.clone());
    let producer = Producer::new(&client).unwrap();
    for payload in payloads {
        let record = OutRecord {
            topic: Arc::from(topics::READINGS),
            key: Some(b"pump-7".to_vec()),
            payload: Some(payload.clone().into_bytes()),
            ..OutRecord::default()
        };
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// A day of two sensors in steps of 20 s, with a gap, values of every quality and one peak; and a record that is broken.
fn a_day() -> Vec<String> {
    let start_ns = 1_788_220_800_000_000_000_i64; // 2026-09-01T00:00:00Z
    let mut records = vec!["{\"asset\": \"pump-7\", <script>alert(1)</script>".to_owned()];
    for chunk in (0..4_320_i64).collect::<Vec<_>>().chunks(240) {
        let mut readings = Vec::new();
        for step in chunk.iter().copied().filter(|step| !(3_900..4_000).contains(step)) {
            let time_ns = start_ns + step * 20_000_000_000;
            let phase = step as f64 / 90.0;
            let flow = 12.5 + phase.sin() + 0.2 * (phase * 17.0).sin() + if step == 4_250 { 6.0 } else { 0.0 };
            let quality = if (4_100..4_112).contains(&step) { "uncertain" } else { "good" };
            readings.push(json!({"sensor": "flow", "time_ns": time_ns, "value": flow, "quality": quality}));
            let warm = 61.0 + 8.0 * (phase / 6.0).sin();
            readings.push(json!({"sensor": "bearing <temperature>", "time_ns": time_ns, "value": warm}));
        }
        records.push(json!({"asset": "pump-7", "readings": readings}).to_string());
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn people_find_their_way_with_mouse_keyboard_and_without_script() {
    let Some(program) = installed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    publish(&up, &a_day()).await;
    up.wait_until("full", |up| {
        let page = up.http_get("/sensor?asset=pump-7&sensor=flow").map_or(String::new(), |(_, page)| page);
        page.contains("The last 30 of") && up.http_get("/letters").is_some_and(|(_, page)| page.contains("broken-json"))
    });
    let mut browser = Chromium::start(&program);
    let home = format!("http://{}", up.http);

    // Each page at each width, light and dark: whole, nothing wider than the screen, no complaint.
    let sensor = "/sensor?asset=pump-7&sensor=flow&period=6h";
    let letter = letter_of(&up);
    let pages = [
        ("overview", "/"),
        ("assets", "/assets"),
        ("asset", "/asset?name=pump-7"),
        ("sensor", sensor),
        ("letters", "/letters"),
        ("letter", &letter),
        ("replay", "/replay"),
        ("health", "/health"),
    ];
    for (screen, width, height) in SCREENS {
        for dark in [false, true] {
            browser.screen(width, height, dark);
            for (name, path) in pages {
                browser.open(&format!("{home}{path}"));
                let wide = browser.evaluate("document.documentElement.scrollWidth - innerWidth");
                assert!(wide.as_i64().unwrap() <= 0, "{name} is {wide} px wider than a {screen}");
                assert_eq!(browser.evaluate("document.querySelectorAll('h1').length"), 1, "{name}");
                if let Some(folder) = screenshots() {
                    let shade = if dark { "-dark" } else { "" };
                    browser.screenshot(&folder.join(format!("{name}-{screen}{shade}.png")));
                }
            }
        }
    }

    // With the mouse, from the overview to a figure of a sensor.
    browser.screen(1280, 860, false);
    browser.open(&home);
    browser.follow("nav a[href='/assets']");
    browser.follow("main th a");
    browser.follow("main tbody tr:last-child th a");
    browser.follow("nav[aria-label=Period] a:nth-of-type(2)");
    assert_eq!(browser.evaluate("document.querySelector('h1').textContent"), "flow");
    browser.evaluate("document.querySelector('select[name=figure]').value = 'rms'; true");
    browser.follow("select[name=figure] + button, label:has(select[name=figure]) + button");
    assert!(
        browser
            .evaluate("document.querySelector('#features ~ figure, [aria-labelledby=features] figure').textContent")
            .as_str()
            .unwrap()
            .contains("rms")
    );

    // With the keyboard: the first key leads past the navigation.
    browser.open(&home);
    browser.press("Tab", TAB);
    assert_eq!(browser.evaluate("document.activeElement.className"), "skip");
    browser.press("Enter", ENTER);
    assert_eq!(browser.evaluate("document.activeElement.id"), "main");

    // Figures move without a reload, and pause when asked to.
    browser.open(&format!("{home}/asset?name=pump-7"));
    browser.evaluate("window.loadedOnce = true");
    let later = json!({"asset": "pump-7", "sensor": "flow", "time": "2026-09-02T12:00:00Z", "value": 99.25});
    publish(&up, &[later.to_string()]).await;
    browser.wait_until("document.querySelector('main table').textContent.includes('99.25') && window.loadedOnce === true");
    browser.click("#live button");
    assert_eq!(browser.evaluate("document.querySelector('#live span').textContent"), "Paused");

    // Without any script: a letter is sent again, after a question, and comes back refused once more.
    browser.scripts(false);
    browser.open(&format!("{home}/letters"));
    browser.follow("main th a");
    browser.follow("a.button");
    browser.follow("form button.strong");
    assert!(
        browser
            .evaluate("document.querySelector('main').textContent")
            .as_str()
            .unwrap()
            .contains("1 record is in its topic again")
    );
    browser.scripts(true);

    // A page that is not there says so; the browser notes that as an error of its own.
    assert_eq!(browser.problems, Vec::<String>::new());
    browser.open(&format!("{home}/asset?name=nobody"));
    assert_eq!(browser.evaluate("document.querySelector('h1').textContent"), "Not found");
    up.stop();
}

/// The bearing at the drive end of the motor of the recording.
const BEARING: &str = r#"
[[sensors]]
asset = "cwru-*"
sensor = "acceleration"
unit = "[g]"
bands_hz = [[2000.0, 4000.0]]
bearing = { balls = 9, ball_diameter = 7.94, pitch_diameter = 39.04, shaft_rpm = 1797 }
"#;

#[test]
fn a_recorded_waveform_has_its_samples_spectrum_envelope_and_lines_and_a_recorded_sensor_its_features() {
    let (Some(program), Some(data)) = (installed(), mantis_testing::recordings()) else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mantis.toml"), BEARING).unwrap();
    let mut up = Up::start(folder.path(), &[]);
    for (mapping, file) in [("cwru", "cwru/1797_IR_7_DE12_DE.f64le"), ("skab", "skab/data/valve1/0.csv")] {
        let mapping = mantis_testing::repository().join(format!("examples/{mapping}.toml"));
        run(folder.path(), &["replay", "--mapping", mapping.to_str().unwrap(), data.join(file).to_str().unwrap()], 0);
    }
    let frames = "/sensor?asset=cwru-1797_IR_7_DE12_DE&sensor=acceleration";
    let readings = "/sensor?asset=skab-valve1-0&sensor=Pressure&figure=rms";
    up.wait_until("full", |up| {
        let has = |path: &str, text: &str| up.http_get(path).is_some_and(|(_, page)| page.contains(text));
        has(frames, "Times the median") && has(frames, "The last 30 of 30") && has(readings, "The last ")
    });
    let mut browser = Chromium::start(&program);
    let home = format!("http://{}", up.http);
    for (screen, width, height) in SCREENS {
        browser.screen(width, height, false);
        for (name, path) in [("waveform", frames), ("features", readings)] {
            browser.open(&format!("{home}{path}"));
            let wide = browser.evaluate("document.documentElement.scrollWidth - innerWidth");
            assert!(wide.as_i64().unwrap() <= 0, "{name} is {wide} px wider than a {screen}");
            if let Some(folder) = screenshots() {
                browser.screenshot(&folder.join(format!("{name}-{screen}.png")));
            }
        }
        assert!(browser.evaluate("document.querySelectorAll('#features ~ figure svg').length").as_i64().unwrap() >= 1);
    }

    // The samples, their spectrum and that of the envelope; and the line of the damaged race stands out.
    browser.open(&format!("{home}{frames}"));
    assert_eq!(browser.evaluate("document.querySelectorAll('[aria-labelledby=wave] figure').length"), 3);
    let inner = "[...document.querySelectorAll('[aria-labelledby=wave] tbody tr')].find(row => row.textContent.includes('BPFI'))";
    let times = browser.evaluate(&format!("Number({inner}.lastElementChild.textContent)"));
    assert!(times.as_f64().unwrap() > 10.0, "{times} times the median");
    // An older frame is a click away.
    let start = "document.querySelector('#wave small').textContent";
    let newest = browser.evaluate(start);
    browser.follow("[aria-labelledby=features] tbody tr:last-child th a");
    assert_ne!(browser.evaluate(start), newest);
    assert!(browser.evaluate("document.querySelector('#wave').textContent").as_str().unwrap().starts_with("Waveform"));
    assert_eq!(browser.problems, Vec::<String>::new());
    up.stop();
}

/// The page of the first dead letter.
fn letter_of(up: &Up) -> String {
    let (_, page) = up.http_get("/letters").unwrap();
    let href = page.split("href=\"/letter?").nth(1).unwrap().split('"').next().unwrap();
    format!("/letter?{}", href.replace("&#38;", "&"))
}

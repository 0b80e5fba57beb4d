//! `scripts/check-infrastructure-health.sh` against servers that are up, down, hung and wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpListener,
    process::Command,
};

use serde_json::Value;

const SERVICES: [&str; 15] = [
    "kafka",
    "kafka-ui",
    "postgres",
    "timescaledb",
    "influxdb",
    "redis",
    "minio",
    "mlflow",
    "prometheus",
    "grafana",
    "jaeger",
    "alertmanager",
    "node-exporter",
    "postgres-exporter",
    "redis-exporter",
];

/// What the check says of each service where all of them are at `port`, and its exit code.
fn check(services: &[&str], ports: impl Fn(&str) -> Option<u16>) -> (BTreeMap<String, Value>, Option<i32>) {
    let script = mantis_testing::repository().join("scripts/check-infrastructure-health.sh");
    let mut command = Command::new(script);
    command.arg("--json").args(services).env("MANTIS_HEALTH_TIMEOUT_S", "1");
    for service in services {
        if let Some(port) = ports(service) {
            command.env(format!("MANTIS_PORT_{}", service.replace('-', "_").to_uppercase()), port.to_string());
        }
    }
    let output = command.output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let told = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    (told.map(|line| (line["service"].as_str().unwrap().to_owned(), line)).collect(), output.status.code())
}

fn all_are(state: &str, told: &BTreeMap<String, Value>) {
    assert_eq!(told.len(), SERVICES.len());
    for (service, line) in told {
        assert_eq!(line["state"], state, "{service}: {line}");
        assert_ne!(line["next"], "", "{service}: what to do is told");
    }
}

#[test]
fn a_port_where_nobody_listens_is_down() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (told, code) = check(&SERVICES, |_| Some(port));
    all_are("down", &told);
    assert_eq!(code, Some(1));
}

#[test]
fn a_server_that_accepts_and_never_answers_is_hung() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, code) = check(&SERVICES, |_| Some(port));
    all_are("hung", &told);
    assert_eq!(code, Some(1));
}

#[test]
fn another_server_on_the_port_is_wrong() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                if stream.read(&mut [0; 512]).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
                }
            });
        }
    });
    let (told, code) = check(&SERVICES, |_| Some(port));
    all_are("wrong", &told);
    assert_eq!(code, Some(1));
}

#[test]
fn a_server_of_the_stack_is_up() {
    for service in ["kafka", "influxdb", "postgres", "timescaledb", "redis", "minio"] {
        let server = match mantis_testing::server(service) {
            Ok(server) => server,
            Err(why) => {
                mantis_testing::skipped(&why);
                continue;
            }
        };
        let port = server.address.rsplit_once(':').unwrap().1.parse().unwrap();
        let (told, code) = check(&[service], |_| Some(port));
        assert_eq!((&told[service]["state"], code), (&"up".into(), Some(0)), "{told:?}");
    }
}

#[test]
fn what_it_does_not_know_is_a_wrong_argument() {
    let script = mantis_testing::repository().join("scripts/check-infrastructure-health.sh");
    for arguments in [&["mongodb"][..], &["--fast"], &["--watch", "soon"]] {
        let output = Command::new(&script).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

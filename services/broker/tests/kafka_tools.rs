//! The broker as Apache Kafka's own Java clients and tools see it. They are fetched once from Maven Central into the user's
//! cache folder; where Java, Maven or the network is missing, the test says that it skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::TestBroker;
use mantis_broker::Config;

const VERSION: &str = "4.3.1";
const POM: &str = r#"<project><modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-tools-for-tests</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>VERSION</version></dependency>
  </dependencies>
</project>
"#;

/// The folder with the tools' jars; fetched if it is not there.
fn jars(maven: &Path) -> Result<PathBuf, String> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache"))).ok_or("there is no home folder")?;
    let folder = cache.join("mantis").join(format!("kafka-tools-{VERSION}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let building = folder.with_extension(format!("{}.new", std::process::id()));
    fs::create_dir_all(&building).map_err(|error| error.to_string())?;
    let pom = building.join("pom.xml");
    fs::write(&pom, POM.replace("VERSION", VERSION)).map_err(|error| error.to_string())?;
    let fetched = Command::new(maven)
        .args(["-B", "-q", "-ntp", "-f"])
        .arg(&pom)
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies")
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", building.display()))
        .output()
        .map_err(|error| error.to_string())?;
    if !fetched.status.success() {
        let _ = fs::remove_dir_all(&building);
        return Err(format!("Maven cannot fetch them: {}", String::from_utf8_lossy(&fetched.stdout)));
    }
    // Another test run may have been quicker; then its folder is as good.
    if fs::rename(&building, &folder).is_err() {
        let _ = fs::remove_dir_all(&building);
    }
    Ok(folder)
}

struct Tools {
    java: PathBuf,
    jars: PathBuf,
    servers: String,
}

impl Tools {
    fn run(&self, class: &str, arguments: &[&str]) -> String {
        self.run_with(class, arguments, "")
    }

    fn run_with(&self, class: &str, arguments: &[&str], input: &str) -> String {
        let (succeeded, output) = self.try_run(class, arguments, input);
        assert!(succeeded, "{class} {arguments:?}: {output}");
        output
    }

    fn try_run(&self, class: &str, arguments: &[&str], input: &str) -> (bool, String) {
        let mut child = Command::new(&self.java)
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
            .arg(self.jars.join("*"))
            .arg(class)
            .args(["--bootstrap-server", &self.servers])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

#[test]
fn kafkas_own_tools_administer_produce_consume_and_verify() {
    let (Some(java), Some(maven)) = (mantis_testing::program("java"), mantis_testing::program("mvn")) else { return };
    let jars = match jars(&maven) {
        Ok(jars) => jars,
        Err(reason) => return mantis_testing::skipped(&format!("Kafka's tools {VERSION} are not there: {reason}")),
    };
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    let tools = Tools { java, jars, servers: broker.servers() };
    topics_and_settings(&tools);
    records_and_groups(&tools);
    verifiable_clients(&tools);
}

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

fn topics_and_settings(tools: &Tools) {
    let created = ["--create", "--topic", "admin", "--partitions", "2", "--config", "retention.ms=86400000"];
    tools.run(TOPICS, &created);
    tools.run(TOPICS, &["--alter", "--topic", "admin", "--partitions", "5"]);
    let topic = ["--entity-type", "topics", "--entity-name", "admin"];
    tools.run(CONFIGS, &[&["--alter", "--add-config", "max.message.bytes=2000000"][..], &topic].concat());
    let described = tools.run(CONFIGS, &[&["--describe"][..], &topic].concat());
    assert!(described.contains("max.message.bytes=2000000") && described.contains("retention.ms=86400000"), "{described}");
    let unknown = [&["--alter", "--add-config", "nonsense=1"][..], &topic].concat();
    let (taken, reason) = tools.try_run(CONFIGS, &unknown, "");
    assert!(!taken && reason.contains("unknown topic setting nonsense"), "{reason}");
    let described = tools.run(TOPICS, &["--describe", "--topic", "admin"]);
    assert!(described.contains("PartitionCount: 5") && described.contains("Partition: 4"), "{described}");
    tools.run(TOPICS, &["--delete", "--topic", "admin"]);
    let listed = tools.run(TOPICS, &["--list"]);
    assert!(!listed.contains("admin"), "{listed}");
}

fn records_and_groups(tools: &Tools) {
    let lines: String = (0..500).map(|number| format!("line {number}\n")).collect();
    tools.run(TOPICS, &["--create", "--topic", "console", "--partitions", "1"]);
    tools.run_with("org.apache.kafka.tools.ConsoleProducer", &["--topic", "console"], &lines);
    let consume = ["--topic", "console", "--from-beginning", "--group", "readers", "--max-messages", "500"];
    let consumed = tools.run("org.apache.kafka.tools.consumer.ConsoleConsumer", &consume);
    assert_eq!(consumed.lines().filter(|line| line.starts_with("line ")).count(), 500);
    let listed = tools.run(GROUPS, &["--list", "--state"]);
    assert!(listed.lines().any(|line| line.starts_with("readers") && line.contains("Empty")), "{listed}");
    let described = tools.run(GROUPS, &["--describe", "--group", "readers"]);
    let columns: Vec<_> = described.lines().flat_map(|line| line.split_whitespace()).collect();
    assert!(columns.windows(6).any(|line| line == ["readers", "console", "0", "500", "500", "0"]), "{described}");
    let reset = ["--reset-offsets", "--group", "readers", "--topic", "console", "--to-offset", "100", "--execute"];
    let reset = tools.run(GROUPS, &reset);
    assert!(reset.split_whitespace().any(|column| column == "100"), "{reset}");
    let deleted = tools.run(GROUPS, &["--delete-offsets", "--group", "readers", "--topic", "console:0"]);
    assert!(deleted.contains("Successful"), "{deleted}");
    let deleted = tools.run(GROUPS, &["--delete", "--group", "readers"]);
    assert!(deleted.contains("was successful"), "{deleted}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, r#"{{"partitions":[{{"topic":"console","partition":0,"offset":200}}],"version":1}}"#).unwrap();
    let path = file.path().to_str().unwrap();
    let deleted = tools.run("org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", path]);
    assert!(deleted.contains("low_watermark: 200"), "{deleted}");
}

fn verifiable_clients(tools: &Tools) {
    let produced = tools.run("org.apache.kafka.tools.VerifiableProducer", &["--topic", "verified", "--max-messages", "2000"]);
    assert!(produced.contains(r#""sent":2000,"acked":2000"#), "{produced}");
    let consume = ["--topic", "verified", "--group-id", "verifiers", "--max-messages", "2000", "--reset-policy", "earliest"];
    let consumed = tools.run("org.apache.kafka.tools.VerifiableConsumer", &consume);
    assert!(consumed.contains(r#""name":"shutdown_complete""#) && consumed.contains(r#""success":true"#), "{consumed}");
}

//! Enforces what ARCHITECTURE.md says: the edges that must not exist, one home for rdkafka and for unsafe code, and a map
//! that names every room and no room that is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde_json::Value;

/// Crates that bring tasks, sockets, files of their own, or a server's protocol.
const IO: [&str; 11] =
    ["async-std", "axum", "hyper", "mio", "rdkafka", "redis", "reqwest", "rusqlite", "smol", "socket2", "tokio"];

/// What pure rooms must not call in `std`.
const IO_IN_STD: [&str; 7] =
    ["std::env", "std::fs", "std::net", "std::process", "std::thread", "Instant::now", "SystemTime::now"];

/// Maths and formats: the same answer at any time, on any machine.
const PURE: [&str; 3] = ["schemas", "crates/signal", "crates/kpi"];

/// The only users of rdkafka: the room for it, and the benchmark that measures it by itself.
const KAFKA_CLIENTS: [&str; 2] = ["bench", "crates/kafka"];

/// Where the product may be unsafe, in one module: librdkafka's batch consume is not in rdkafka's safe API.
const UNSAFE: &str = "crates/kafka";

/// The yardstick of the benchmark: librdkafka's batch consume by itself, with nothing of ours around it.
const UNSAFE_YARDSTICK: &str = "bench/src/raw_loop.rs";

/// Read once for all tests.
static HOUSE: LazyLock<House> = LazyLock::new(House::read);

#[test]
fn an_edge_is_seen_through_other_crates() {
    let path = HOUSE.path("services/workers", &["rdkafka"]).expect("workers reach Kafka");
    assert!(path.len() > 2, "{path:?}");
    assert_eq!((path.first(), path.last()), (Some(&"mantis-workers"), Some(&"rdkafka")));
}

#[test]
fn the_road_reaches_neither_kafka_nor_a_store() {
    HOUSE.must_not_reach("crates/pipeline", &["mantis-kafka", "mantis-stores", "rdkafka", "rusqlite"]);
}

#[test]
fn stores_do_not_reach_kafka() {
    HOUSE.must_not_reach("crates/stores", &["mantis-kafka", "rdkafka"]);
}

#[test]
fn pure_rooms_reach_no_io() {
    let house = &*HOUSE;
    for room in PURE.into_iter().filter(|room| house.rooms.contains_key(*room)) {
        house.must_not_reach(room, &IO);
        for file in files(&house.root.join(room).join("src"), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            for call in IO_IN_STD {
                assert!(!text.contains(call), "{} uses {call}: {room} is pure", file.display());
            }
        }
    }
}

#[test]
fn libraries_do_not_reach_services() {
    let house = &*HOUSE;
    let services: Vec<&str> = house.in_folder("services").collect();
    for (room, _) in house.rooms.iter().filter(|(room, _)| !is_service(room) && *room != "bench") {
        house.must_not_reach(room, &services);
    }
}

#[test]
fn nothing_reaches_the_binary() {
    let house = &*HOUSE;
    for room in house.rooms.keys().filter(|room| *room != "services/mantis") {
        house.must_not_reach(room, &["mantis"]);
    }
}

#[test]
fn what_tests_share_is_no_part_of_the_product() {
    let house = &*HOUSE;
    // Benchmarks find the servers as tests do.
    for room in house.rooms.keys().filter(|room| !["crates/testing", "bench"].contains(&room.as_str())) {
        house.must_not_reach(room, &["mantis-testing"]);
    }
}

#[test]
fn rdkafka_has_one_home() {
    let house = &*HOUSE;
    let users: Vec<&str> =
        house.rooms.iter().filter(|(_, id)| house.uses(id, "rdkafka")).map(|(room, _)| room.as_str()).collect();
    assert!(users.contains(&"crates/kafka"), "crates/kafka no longer uses rdkafka: is this test still right?");
    for room in users {
        assert!(KAFKA_CLIENTS.contains(&room), "{room} depends on rdkafka: go through crates/kafka");
    }
}

#[test]
fn unsafe_code_has_one_home() {
    let house = &*HOUSE;
    let lints = fs::read_to_string(house.root.join("Cargo.toml")).unwrap();
    assert!(lints.contains("unsafe_code = \"deny\""), "the workspace no longer denies unsafe code");
    let mut homes = Vec::new();
    for room in house.rooms.keys() {
        let manifest = fs::read_to_string(house.root.join(room).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{room} does not take the workspace's lints");
        for file in files(&house.root.join(room), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            if !text.lines().any(allows_unsafe_code) || file == house.root.join(UNSAFE_YARDSTICK) {
                continue;
            }
            let product = room != "bench" && file.starts_with(house.root.join(room).join("src"));
            match product {
                true if room == UNSAFE => homes.push(file),
                true => panic!("{} allows unsafe code: its home is {UNSAFE}", file.display()),
                // Counting allocations takes an unsafe trait.
                false => assert!(text.contains("unsafe impl GlobalAlloc"), "{} allows unsafe code", file.display()),
            }
        }
    }
    assert!(homes.len() <= 1, "unsafe code of {UNSAFE} belongs in one module, it is in {homes:?}");
}

#[test]
fn the_map_names_every_room_and_no_file_that_is_gone() {
    let house = &*HOUSE;
    let map = fs::read_to_string(house.root.join("ARCHITECTURE.md")).unwrap();
    let named: BTreeSet<&str> = map.split('`').skip(1).step_by(2).map(|path| path.trim_end_matches('/')).collect();
    for room in house.rooms.keys() {
        assert!(named.contains(room.as_str()), "ARCHITECTURE.md does not name `{room}`");
    }
    let roots = ["bench", "crates", "docs", "examples", "schemas", "scripts", "services"];
    for path in named.iter().filter(|path| roots.iter().any(|root| path.starts_with(&format!("{root}/")))) {
        assert!(house.root.join(path).exists(), "ARCHITECTURE.md names `{path}`, which does not exist");
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = &HOUSE.root;
    let mut pages = files(&root.join("docs"), "md");
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(|page| root.join(page)));
    let mut broken = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !page.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

/// The workspace as cargo sees it.
struct House {
    root: PathBuf,
    /// Folder of each member, relative to the root -> package id.
    rooms: BTreeMap<String, String>,
    /// Package id -> name.
    names: BTreeMap<String, String>,
    /// Package id -> ids of its normal dependencies. Dev-dependencies may look both ways.
    edges: BTreeMap<String, Vec<String>>,
}

impl House {
    fn read() -> Self {
        let root = mantis_testing::repository();
        let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
            .current_dir(&root)
            .output()
            .unwrap();
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let members: BTreeSet<String> = metadata["workspace_members"].as_array().unwrap().iter().map(text).collect();
        let mut house = Self { root, rooms: BTreeMap::new(), names: BTreeMap::new(), edges: BTreeMap::new() };
        for package in metadata["packages"].as_array().unwrap() {
            let id = text(&package["id"]);
            if members.contains(&id) {
                let manifest = PathBuf::from(text(&package["manifest_path"]));
                let room = manifest.parent().unwrap().strip_prefix(&house.root).unwrap();
                house.rooms.insert(room.to_str().unwrap().to_owned(), id.clone());
            }
            house.names.insert(id, text(&package["name"]));
        }
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let normal = |dep: &&Value| dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
            let deps = node["deps"].as_array().unwrap().iter().filter(normal).map(|dep| text(&dep["pkg"])).collect();
            house.edges.insert(text(&node["id"]), deps);
        }
        house
    }

    fn in_folder<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a str> {
        self.rooms.iter().filter(move |(room, _)| room.starts_with(folder)).map(|(_, id)| self.names[id].as_str())
    }

    fn uses(&self, id: &str, name: &str) -> bool {
        self.edges[id].iter().any(|dependency| self.names[dependency] == name)
    }

    fn must_not_reach(&self, room: &str, forbidden: &[&str]) {
        if let Some(path) = self.path(room, forbidden) {
            panic!("an edge that must not exist: {}", path.join(" -> "));
        }
    }

    /// The names of the crates on the way from a room to one of `targets`, if there is a way.
    fn path(&self, room: &str, targets: &[&str]) -> Option<Vec<&str>> {
        let mut path = vec![self.rooms[room].as_str()];
        let found = self.search(targets, &mut path, &mut BTreeSet::new());
        found.then(|| path.iter().map(|id| self.names[*id].as_str()).collect())
    }

    /// Depth first; `path` then leads to what was found.
    fn search<'a>(&'a self, targets: &[&str], path: &mut Vec<&'a str>, seen: &mut BTreeSet<&'a str>) -> bool {
        let Some(&from) = path.last() else { return false };
        for dependency in &self.edges[from] {
            if !seen.insert(dependency) {
                continue;
            }
            path.push(dependency);
            if targets.contains(&self.names[dependency].as_str()) || self.search(targets, path, seen) {
                return true;
            }
            path.pop();
        }
        false
    }
}

fn allows_unsafe_code(line: &str) -> bool {
    let line = line.trim_start();
    (line.starts_with("#[") || line.starts_with("#![")) && line.contains("unsafe_code") && !line.contains("forbid")
}

fn is_service(room: &str) -> bool {
    room.starts_with("services/")
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
    found
}

//! What every archive store must do, as tests that run on any of them: `archive_conformance!(Engine)` in a file of `tests/`.

// A suite is test code: it ends at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::{
    collections::BTreeSet,
    future::Future,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{ArchiveStore, Created, LIST_MAX};

/// A kind of archive store under test.
pub trait Engine: Send + Sync + 'static {
    /// Its store.
    type Store: ArchiveStore + Clone;
    /// Keeps an empty place until the test has ended.
    type Place: AsRef<str> + Send;

    /// A new, empty place for a store: a folder, a bucket.
    fn place() -> Self::Place;
    /// Opens the store at a place, whether it is new or not.
    fn open(place: &str) -> impl Future<Output = Self::Store> + Send;
}

/// One `#[tokio::test]` per case of the suite, for an [`Engine`](crate::archive::conformance::Engine).
#[macro_export]
macro_rules! archive_conformance {
    ($engine:ty) => {
        $crate::archive_conformance!(@cases $engine:
            an_object_comes_back_byte_for_byte
            the_end_of_an_object_comes_back_alone
            an_object_is_never_overwritten
            of_creators_that_race_exactly_one_wins_and_the_others_see_its_bytes_whole
            an_object_is_never_seen_half_written
            odd_keys_stay_apart_and_come_back
            a_big_object_goes_in_whole
            lists_are_in_order_of_key_and_pages_follow_on_each_other
            a_list_ends_where_its_prefix_does
            what_was_created_is_there_after_reopening
        );
        #[tokio::test]
        async fn a_kill_in_the_middle_of_creating_leaves_nothing_or_everything() {
            let test = concat!(module_path!(), "::a_kill_in_the_middle_of_creating_leaves_nothing_or_everything");
            $crate::archive::conformance::a_kill_in_the_middle_of_creating_leaves_nothing_or_everything::<$engine>(test).await;
        }
    };
    (@cases $engine:ty: $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() { $crate::archive::conformance::$case::<$engine>().await; })*
    };
}

/// Bytes that tell their maker and whether they are whole.
fn object(maker: u8, length: usize) -> Bytes {
    vec![maker; length].into()
}

async fn keys<S: ArchiveStore>(store: &S, prefix: &str) -> Vec<String> {
    store.list(prefix, None, LIST_MAX).await.unwrap().into_iter().map(|listed| listed.key).collect()
}

/// Also an empty one, and none where there is none.
pub async fn an_object_comes_back_byte_for_byte<E: Engine>() {
    let place = E::place();
    let store = E::open(place.as_ref()).await;
    let all: Bytes = (0..=255).collect::<Vec<u8>>().into();
    for (key, bytes) in [("a/all", all), ("a/empty", Bytes::new())] {
        assert_eq!(store.read(key).await.unwrap(), None);
        assert_eq!(store.create(key, bytes.clone()).await.unwrap(), Created::Created);
        assert_eq!(store.read(key).await.unwrap(), Some(bytes));
    }
}

/// All of it where it is no longer than was asked for.
pub async fn the_end_of_an_object_comes_back_alone<E: Engine>() {
    let place = E::place();
    let store = E::open(place.as_ref()).await;
    let all: Bytes = (0..=255).collect::<Vec<u8>>().into();
    assert_eq!(store.read_end("a/all", 10).await.unwrap(), None);
    store.create("a/all", all.clone()).await.unwrap();
    for (bytes, from) in [(0, 256), (10, 246), (256, 0), (1_000, 0)] {
        assert_eq!(store.read_end("a/all", bytes).await.unwrap(), Some(all.slice(from..)), "the last {bytes} bytes");
    }
}

/// Neither by other bytes nor by the same.
pub async fn an_object_is_never_overwritten<E: Engine>() {
    let place = E::place();
    let store = E::open(place.as_ref()).await;
    assert_eq!(store.create("a/b", object(1, 100)).await.unwrap(), Created::Created);
    for (maker, length) in [(2, 10), (2, 1_000), (1, 100)] {
        assert_eq!(store.create("a/b", object(maker, length)).await.unwrap(), Created::Exists);
        assert_eq!(store.read("a/b").await.unwrap(), Some(object(1, 100)));
    }
}

/// The losers read at once.
pub async fn of_creators_that_race_exactly_one_wins_and_the_others_see_its_bytes_whole<E: Engine>() {
    const LENGTH: usize = 200_000;
    let place = E::place();
    for round in 0..10 {
        let key = format!("race/{round}");
        let mut racers = JoinSet::new();
        for maker in 0..8 {
            let (store, key) = (E::open(place.as_ref()).await, key.clone());
            racers.spawn(async move {
                let created = store.create(&key, object(maker, LENGTH)).await;
                (maker, created, store.read(&key).await)
            });
        }
        let (mut winners, mut seen) = (Vec::new(), BTreeSet::new());
        while let Some(racer) = racers.join_next().await {
            let (maker, created, read) = racer.unwrap();
            // An opening store may sweep another's unfinished object away: that one is told to try again.
            let Ok(created) = created else { continue };
            winners.extend((created == Created::Created).then_some(maker));
            seen.insert(read.unwrap().unwrap());
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [object(winners[0], LENGTH)]);
    }
}

/// Readers and lists that run while it is made see nothing or all of it.
pub async fn an_object_is_never_seen_half_written<E: Engine>() {
    const LENGTH: usize = 4 << 20;
    let place = E::place();
    let store = E::open(place.as_ref()).await;
    for round in 0..5 {
        let key = format!("half/{round}");
        let (maker, made) = (store.clone(), key.clone());
        let making = tokio::spawn(async move { maker.create(&made, object(7, LENGTH)).await.unwrap() });
        loop {
            let listed = store.list("half/", None, LIST_MAX).await.unwrap();
            assert!(listed.iter().all(|listed| listed.key.starts_with("half/") && listed.bytes == LENGTH as u64), "{listed:?}");
            assert!(listed.len() <= round + 1);
            if let Some(read) = store.read(&key).await.unwrap() {
                assert_eq!(read, object(7, LENGTH));
                break;
            }
        }
        assert_eq!(making.await.unwrap(), Created::Created);
    }
}

/// None leads elsewhere, and none is taken for another.
pub async fn odd_keys_stay_apart_and_come_back<E: Engine>() {
    const KEYS: [&str; 14] = [
        "a/ b",
        "a/%20b",
        "a/..",
        "a/.b",
        "a/b%2Fc",
        "a/b\nc",
        "a/b'\"\\$`;c",
        "a/b+c=d&e?f#g",
        "a/B",
        "a/ä",
        "a/日本",
        "a/~",
        "../outside",
        "./here",
    ];
    let place = E::place();
    let store = E::open(place.as_ref()).await;
    for (number, key) in (0..).zip(KEYS) {
        assert_eq!(store.create(key, object(number, 3)).await.unwrap(), Created::Created, "{key}");
    }
    for (number, key) in (0..).zip(KEYS) {
        assert_eq!(store.read(key).await.unwrap(), Some(object(number, 3)), "{key}");
    }
    let mut sorted = KEYS;
    sorted.sort_unstable();
    assert_eq!(keys(&store, "").await, sorted);
    assert_eq!(keys(&store, "../").await, ["../outside"]);
}

/// Larger than any buffer on the way.
pub async fn a_big_object_goes_in_whole<E: Engine>() {
    let place = E::place();
    let store = E::open(place.as_ref()).await;
    let big: Bytes = (0..12_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into();
    assert_eq!(store.create("big", big.clone()).await.unwrap(), Created::Created);
    assert!(store.read("big").await.unwrap() == Some(big.clone()), "the big object came back as another");
    assert_eq!(store.list("", None, 1).await.unwrap()[0].bytes, big.len() as u64);
}

/// However a page is cut.
pub async fn lists_are_in_order_of_key_and_pages_follow_on_each_other<E: Engine>() {
    let place = E::place();
    let store = E::open(place.as_ref()).await;
    let mut all = Vec::new();
    // Not in their order; folders and names that are prefixes of others.
    for number in [7, 0, 11, 3, 9, 1, 10, 2] {
        for topic in ["t", "t.dlq", "t-2", "s"] {
            let key = format!("c/{topic}/{}/{number:020}", number % 3);
            store.create(&key, object(1, number + 1)).await.unwrap();
            all.push(key);
        }
    }
    all.sort_unstable();
    assert_eq!(keys(&store, "").await, all);
    for limit in [1, 2, 5, all.len()] {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = store.list("c/", after.as_deref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            let last = page.len() < limit;
            after = page.last().map(|listed| listed.key.clone()).or(after);
            found.extend(page.into_iter().map(|listed| listed.key));
            if last {
                break;
            }
        }
        assert_eq!(found, all, "in pages of {limit}");
    }
}

/// Also where it ends within a name, and where `after` lies outside of it.
pub async fn a_list_ends_where_its_prefix_does<E: Engine>() {
    let place = E::place();
    let store = E::open(place.as_ref()).await;
    for key in ["c/t/0/1", "c/t/0/2", "c/t/1/1", "c/t.dlq/0/1", "d/t/0/1"] {
        store.create(key, object(1, 1)).await.unwrap();
    }
    assert_eq!(keys(&store, "c/t/0/").await, ["c/t/0/1", "c/t/0/2"]);
    assert_eq!(keys(&store, "c/t").await, ["c/t.dlq/0/1", "c/t/0/1", "c/t/0/2", "c/t/1/1"]);
    assert_eq!(keys(&store, "c/t/0/2").await, ["c/t/0/2"]);
    for nothing in ["x", "c/t/2/", "c/t/0/1/", "c//"] {
        assert!(keys(&store, nothing).await.is_empty(), "{nothing}");
    }
    let behind = async |after| store.list("c/t/", Some(after), LIST_MAX).await.unwrap().len();
    assert_eq!(
        [behind("").await, behind("a").await, behind("c/t/0/1").await, behind("c/t/0/11").await, behind("d").await],
        [3, 3, 2, 2, 0]
    );
}

/// A second instance sees what the first one made.
pub async fn what_was_created_is_there_after_reopening<E: Engine>() {
    let place = E::place();
    E::open(place.as_ref()).await.create("a/b", object(1, 100)).await.unwrap();
    let store = E::open(place.as_ref()).await;
    assert_eq!(store.read("a/b").await.unwrap(), Some(object(1, 100)));
    assert_eq!(store.create("a/b", object(2, 100)).await.unwrap(), Created::Exists);
}

const PLACE: &str = "MANTIS_ARCHIVE_PLACE";
const FROM: &str = "MANTIS_ARCHIVE_FROM";
const KILLED_LENGTH: usize = 3 << 20;

/// The test runs itself as the writer that is killed. What was acknowledged is there; what was not is absent or whole.
pub async fn a_kill_in_the_middle_of_creating_leaves_nothing_or_everything<E: Engine>(test: &str) {
    if let (Ok(place), Ok(from)) = (std::env::var(PLACE), std::env::var(FROM)) {
        return create_until_killed::<E>(&place, from.parse().unwrap()).await;
    }
    let place = E::place();
    let mut from = 0_usize;
    for round in 0..8_u64 {
        let (_, name) = test.split_once("::").unwrap();
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(PLACE, place.as_ref())
            .env(FROM, from.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Kept open until the writer is dead: it must not end by itself because no one listens.
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let acknowledged = lines
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<usize>().ok())
            .nth(1 + round as usize % 3);
        // Somewhere in the making of the next one.
        std::thread::sleep(Duration::from_micros(round * 1_700 % 9_000));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let acknowledged = acknowledged.expect("the writer ended by itself");

        let store = E::open(place.as_ref()).await;
        let listed = store.list("", None, LIST_MAX).await.unwrap();
        assert!(listed.len() > acknowledged, "acknowledged up to {acknowledged}, {} are there", listed.len());
        for (number, listed) in listed.iter().enumerate() {
            assert_eq!((listed.key.as_str(), listed.bytes), (&*key_of(number), KILLED_LENGTH as u64));
            assert!(store.read(&listed.key).await.unwrap() == Some(object(number as u8, KILLED_LENGTH)));
        }
        from = listed.len();
    }
}

async fn create_until_killed<E: Engine>(place: &str, from: usize) {
    let store = E::open(place).await;
    for number in from.. {
        assert_eq!(store.create(&key_of(number), object(number as u8, KILLED_LENGTH)).await.unwrap(), Created::Created);
        println!("acknowledged {number}");
    }
}

fn key_of(number: usize) -> String {
    format!("c/t/0/{number:020}")
}

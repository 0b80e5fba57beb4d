//! Keys of objects: `{cluster}/{topic}/{partition}/{start:020}.parquet`.

use mantis_pipeline::TopicPartition;

const SUFFIX: &str = ".parquet";
/// Digits of a position, so that the order of keys is the order of positions.
const DIGITS: usize = 20;

/// What a key says of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The id of the Kafka cluster.
    pub cluster_id: String,
    /// The partition.
    pub partition: TopicPartition,
    /// First position of the object.
    pub start: i64,
}

impl Place {
    /// The place that a key names; `None` if it is not one of a chain.
    pub fn of(key: &str) -> Option<Self> {
        let mut parts = key.split('/');
        let (cluster_id, topic, partition, file) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let digits =
            file.strip_suffix(SUFFIX).filter(|digits| digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit()))?;
        if parts.next().is_some() {
            return None;
        }
        let partition = TopicPartition::new(topic, partition.parse().ok()?);
        let place = Self { cluster_id: cluster_id.to_owned(), partition, start: digits.parse().ok()? };
        (place.key() == key).then_some(place)
    }

    /// Its key.
    pub fn key(&self) -> String {
        key(&self.cluster_id, &self.partition, self.start)
    }
}

/// The key of the object that starts at `start`.
pub fn key(cluster_id: &str, partition: &TopicPartition, start: i64) -> String {
    format!("{}{start:0DIGITS$}{SUFFIX}", prefix(cluster_id, partition))
}

/// What the keys of a partition's chain begin with.
pub fn prefix(cluster_id: &str, partition: &TopicPartition) -> String {
    format!("{cluster_id}/{}/{}/", partition.topic, partition.partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_its_order_is_that_of_positions() {
        let partition = TopicPartition::new("mantis.readings", 3);
        let keys: Vec<_> = [0, 9, 10, 123_456_789_012, i64::MAX].map(|start| key("c-1", &partition, start)).into();
        assert!(keys.is_sorted());
        assert_eq!(keys[2], "c-1/mantis.readings/3/00000000000000000010.parquet");
        assert_eq!(Place::of(&keys[2]), Some(Place { cluster_id: "c-1".into(), partition, start: 10 }));
    }

    #[test]
    fn what_is_no_key_of_a_chain_is_told_apart() {
        for key in [
            "",
            "c/t/0",
            "c/t/0/7.parquet",
            "c/t/00/00000000000000000007.parquet",
            "c/t/0/00000000000000000007",
            "c/t/0/00000000000000000007.parquet/x",
            "c/t/0/0000000000000000000x.parquet",
            "c/t/0/-0000000000000000007.parquet",
        ] {
            assert_eq!(Place::of(key), None, "{key}");
        }
    }
}

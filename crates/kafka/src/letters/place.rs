//! A position in a topic, as commands and pages show and take it.

use std::{fmt, str::FromStr};

use mantis_pipeline::TopicPartition;

/// A position in a topic, as `topic/partition/offset`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset in it.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

/// A text that is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use topic/partition/offset of a dead-letter topic, as the call before said")]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let mut parts = text.rsplitn(3, '/');
        let offset = parts.next().and_then(|offset| offset.parse().ok());
        let partition = parts.next().and_then(|partition| partition.parse().ok());
        match (parts.next(), partition, offset) {
            (Some(topic), Some(partition), Some(offset)) => Ok(Self { partition: TopicPartition::new(topic, partition), offset }),
            _ => Err(NoPlace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_it_is_written() {
        let place = Place { partition: TopicPartition::new("mantis.readings.dlq", 3), offset: 42 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "mantis.readings.dlq", "mantis.readings.dlq/3", "mantis.readings.dlq/x/1"] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
    }
}

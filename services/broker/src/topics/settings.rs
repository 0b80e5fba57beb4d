//! The settings of a topic: Kafka's names and values for what the log acts on.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::log::{Cleanup, LogConfig, Timestamps};

/// Largest `max.message.bytes` that a topic may have.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Smallest `segment.bytes`: below, files are too many.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Effective settings of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Largest record batch, as it is sent (`max.message.bytes`).
    pub message_bytes_max: usize,
    /// What the partition logs act on.
    pub log: LogConfig,
}

/// Why a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingError {
    /// No such setting.
    #[error("unknown topic setting {name}; known are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The value is not allowed.
    #[error("invalid value {value:?} for {name}: {reason}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// What would be allowed.
        reason: String,
    },
}

/// Kafka's `ConfigDef.Type`, as DescribeConfigs numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueType {
    Text = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// One setting: how it is read, written and explained.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) value_type: ValueType,
    pub(crate) documentation: &'static str,
    get: fn(&TopicSettings) -> String,
    set: fn(&mut TopicSettings, &str) -> Result<(), String>,
}

impl Default for TopicSettings {
    fn default() -> TopicSettings {
        TopicSettings { message_bytes_max: 1 << 20, log: LogConfig::default() }
    }
}

impl TopicSettings {
    /// `defaults` with `overrides` on top.
    pub fn with(defaults: &TopicSettings, overrides: &BTreeMap<String, String>) -> Result<TopicSettings, SettingError> {
        let mut settings = defaults.clone();
        for (name, value) in overrides {
            let setting = Setting::named(name)?;
            (setting.set)(&mut settings, value.trim()).map_err(|reason| SettingError::Invalid {
                name: setting.name,
                value: value.clone(),
                reason,
            })?;
        }
        Ok(settings)
    }
}

impl Setting {
    pub(crate) const ALL: &[Setting] = &[
        Setting {
            name: "cleanup.policy",
            value_type: ValueType::List,
            documentation: "delete: whole segments go by age and size; compact: only the last record of each key is kept.",
            get: |settings| {
                match settings.log.cleanup {
                    Cleanup::Delete => "delete",
                    Cleanup::Compact => "compact",
                    Cleanup::CompactAndDelete => "compact,delete",
                }
                .into()
            },
            set: |settings, value| {
                let mut parts: Vec<_> = value.split(',').map(str::trim).collect();
                parts.sort_unstable();
                settings.log.cleanup = match parts.as_slice() {
                    ["delete"] => Cleanup::Delete,
                    ["compact"] => Cleanup::Compact,
                    ["compact", "delete"] => Cleanup::CompactAndDelete,
                    _ => return Err("delete, compact, or compact,delete".into()),
                };
                Ok(())
            },
        },
        Setting {
            name: "compression.type",
            value_type: ValueType::Text,
            documentation: "Batches are stored as they came; only producer is possible.",
            get: |_| "producer".into(),
            set: |_, value| only("producer", value),
        },
        Setting {
            name: "delete.retention.ms",
            value_type: ValueType::Long,
            documentation: "How long a compacted log keeps tombstones.",
            get: |settings| settings.log.delete_retention_ms.to_string(),
            set: |settings, value| number(value, 0, i64::MAX).map(|ms| settings.log.delete_retention_ms = ms),
        },
        Setting {
            name: "max.message.bytes",
            value_type: ValueType::Int,
            documentation: "Largest record batch, as it is sent.",
            get: |settings| settings.message_bytes_max.to_string(),
            set: |settings, value| number(value, 1, MESSAGE_BYTES_MAX).map(|bytes| settings.message_bytes_max = bytes),
        },
        Setting {
            name: "message.timestamp.type",
            value_type: ValueType::Text,
            documentation: "Whose time the records carry: CreateTime (the producer's) or LogAppendTime (the broker's).",
            get: |settings| {
                match settings.log.timestamps {
                    Timestamps::Create => "CreateTime",
                    Timestamps::Append => "LogAppendTime",
                }
                .into()
            },
            set: |settings, value| {
                settings.log.timestamps = match value {
                    "CreateTime" => Timestamps::Create,
                    "LogAppendTime" => Timestamps::Append,
                    _ => return Err("CreateTime or LogAppendTime".into()),
                };
                Ok(())
            },
        },
        Setting {
            name: "min.insync.replicas",
            value_type: ValueType::Int,
            documentation: "There is one replica; only 1 is possible.",
            get: |_| "1".into(),
            set: |_, value| only("1", value),
        },
        Setting {
            name: "retention.bytes",
            value_type: ValueType::Long,
            documentation: "Oldest segments go while a partition is larger; -1 for no limit. Never what a registered group has not committed.",
            get: |settings| settings.log.retention_bytes.map_or_else(|| "-1".into(), |bytes| bytes.to_string()),
            set: |settings, value| {
                number(value, -1, i64::MAX).map(|bytes| settings.log.retention_bytes = u64::try_from(bytes).ok())
            },
        },
        Setting {
            name: "retention.ms",
            value_type: ValueType::Long,
            documentation: "Segments go whose newest record is older; -1 for no limit. Never what a registered group has not committed.",
            get: |settings| settings.log.retention_ms.unwrap_or(-1).to_string(),
            set: |settings, value| number(value, -1, i64::MAX).map(|ms| settings.log.retention_ms = (ms >= 0).then_some(ms)),
        },
        Setting {
            name: "segment.bytes",
            value_type: ValueType::Int,
            documentation: "A segment is rolled before it would grow beyond this.",
            get: |settings| settings.log.segment_bytes.to_string(),
            set: |settings, value| {
                number(value, SEGMENT_BYTES_MIN, LogConfig::SEGMENT_BYTES_MAX).map(|bytes| settings.log.segment_bytes = bytes)
            },
        },
        Setting {
            name: "segment.ms",
            value_type: ValueType::Long,
            documentation: "A segment is rolled when its first append is older.",
            get: |settings| settings.log.segment_ms.to_string(),
            set: |settings, value| number(value, 1, i64::MAX).map(|ms| settings.log.segment_ms = ms),
        },
    ];

    /// The setting of that name.
    pub(crate) fn named(name: &str) -> Result<&'static Setting, SettingError> {
        Setting::ALL.iter().find(|setting| setting.name == name).ok_or_else(|| SettingError::Unknown {
            name: name.into(),
            known: Setting::ALL.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Its value in `settings`, as clients read and write it.
    pub(crate) fn value(&self, settings: &TopicSettings) -> String {
        (self.get)(settings)
    }
}

fn only(allowed: &str, value: &str) -> Result<(), String> {
    if value == allowed { Ok(()) } else { Err(format!("only {allowed} is possible")) }
}

fn number<N>(value: &str, min: N, max: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    value.parse().ok().filter(|number| (&min..=&max).contains(&number)).ok_or_else(|| format!("a number from {min} to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Result<TopicSettings, SettingError> {
        TopicSettings::with(&TopicSettings::default(), &BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn every_setting_reads_back_what_it_writes() {
        let defaults = TopicSettings::default();
        for setting in Setting::ALL {
            let value = setting.value(&defaults);
            assert_eq!(with(setting.name, &value), Ok(defaults.clone()), "{} = {value}", setting.name);
        }
    }

    #[test]
    fn an_unknown_setting_and_an_impossible_value_are_refused_by_name() {
        assert!(matches!(with("retention.mss", "1"), Err(SettingError::Unknown { name, .. }) if name == "retention.mss"));
        for (name, value) in
            [("retention.ms", "-2"), ("segment.bytes", "1"), ("cleanup.policy", "shred"), ("max.message.bytes", "x")]
        {
            assert!(matches!(with(name, value), Err(SettingError::Invalid { name: refused, .. }) if refused == name));
        }
    }

    #[test]
    fn minus_one_takes_the_limit_away() {
        assert_eq!(with("retention.ms", "-1").unwrap().log.retention_ms, None);
        assert_eq!(with("retention.bytes", "-1").unwrap().log.retention_bytes, None);
    }
}

//! Topics, positions and groups.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use mantis_pipeline::TopicPartition;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic as NativeTopic, ResourceSpecifier, TopicReplication},
    error::KafkaError,
};
use tokio::task;

use crate::{
    ClientConfig, Error,
    error::Code,
    logs::ClientErrors,
    positions,
    raw::{End, Handle},
};

/// Longest wait for an answer.
const WAIT_MS: u32 = 15_000;
const WAIT: Duration = Duration::from_millis(WAIT_MS as u64);

/// A topic to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// The topic's name.
    pub name: String,
    /// The number of its partitions.
    pub partitions: i32,
    /// Settings that differ from the brokers' defaults, by Kafka's names.
    pub settings: Vec<(String, String)>,
}

/// What became of a topic that was to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The topic's name.
    pub name: String,
    /// Whether it was made; otherwise it was there before, and stays as it is.
    pub made: bool,
    /// The number of partitions it has.
    pub partitions: i32,
    /// Settings of a topic that was there before and that are not as asked.
    pub differs: Vec<SettingDiffers>,
}

/// A setting of an existing topic that is not as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingDiffers {
    /// Kafka's name of the setting, or `partitions`.
    pub name: String,
    /// What was asked for.
    pub wanted: String,
    /// What it is; `None` if the brokers do not say.
    pub found: Option<String>,
}

/// How far a group is in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// The group's committed offset, if it has one.
    pub committed: Option<i64>,
    /// First offset that the log still has.
    pub log_start: i64,
    /// Offset after the last record of the log.
    pub log_end: i64,
}

impl Lag {
    /// Records between the group's position (the log's start, if it has none) and the log's end.
    pub fn records(&self) -> u64 {
        let from = self.committed.unwrap_or(self.log_start).max(self.log_start);
        u64::try_from(self.log_end.saturating_sub(from)).unwrap_or(0)
    }
}

/// A consumer group as the brokers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// The group's name.
    pub name: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    pub state: String,
    /// The members' ids.
    pub members: Vec<String>,
}

/// Asks brokers and changes topics. Every call ends within 15 s, or a small multiple of it where it asks more than once.
pub struct Admin {
    client: Arc<AdminClient<ClientErrors>>,
    handle: Handle,
}

impl Admin {
    /// Makes the client; does not wait for the brokers.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(client: &ClientConfig) -> Result<Self, Error> {
        let client: AdminClient<_> = client
            .client()?
            .rdkafka()
            .create_with_context(ClientErrors::default())
            .map_err(|error| Error::Config(format!("the Kafka client cannot be made: {error}")))?;
        let client = Arc::new(client);
        let handle = (&client).into();
        Ok(Self { client, handle })
    }

    /// The id of the cluster.
    ///
    /// # Errors
    /// No broker could be reached in time.
    pub async fn cluster_id(&self) -> Result<String, Error> {
        let handle = self.handle.clone();
        let id = blocking(move || handle.cluster_id(WAIT_MS.cast_signed())).await?;
        id.ok_or_else(|| self.explain(Error::from_code(Code::TIMED_OUT, "cannot reach the brokers to ask for the cluster's id")))
    }

    /// The topics of the cluster with their numbers of partitions, sorted, without Kafka's own.
    ///
    /// # Errors
    /// The brokers could not be asked.
    pub async fn topics(&self) -> Result<Vec<(String, i32)>, Error> {
        let client = Arc::clone(&self.client);
        let metadata = blocking(move || {
            let metadata = client.inner().fetch_metadata(None, WAIT)?;
            let topics = metadata.topics().iter().filter(|topic| !topic.name().starts_with("__"));
            Ok(topics.map(|topic| (topic.name().to_owned(), count(topic.partitions().len()))).collect::<Vec<_>>())
        });
        let mut topics = metadata.await?.map_err(|error| self.failed(&error, "cannot list the topics"))?;
        topics.sort();
        Ok(topics)
    }

    /// The partitions of a topic, in order; none if the topic does not exist.
    ///
    /// # Errors
    /// The brokers could not be asked, or do not let this client know.
    pub async fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>, Error> {
        let name: Arc<str> = topic.into();
        let (client, asked) = (Arc::clone(&self.client), Arc::clone(&name));
        let found = blocking(move || {
            // Of all topics: asking for one by name may make it.
            let metadata = client.inner().fetch_metadata(None, WAIT)?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == &*asked);
            let code = topic.and_then(|topic| topic.error()).map_or(Code::NONE, |code| Code(code as i32));
            Ok((code, topic.map_or_else(Vec::new, |topic| topic.partitions().iter().map(|partition| partition.id()).collect())))
        });
        let what = format!("cannot read the partitions of {topic}");
        let (code, mut partitions): (_, Vec<i32>) = found.await?.map_err(|error| self.failed(&error, &what))?;
        if code.is_error() && code != Code::UNKNOWN_TOPIC && code != Code::UNKNOWN_PARTITION {
            return Err(Error::from_code(code, what));
        }
        partitions.sort_unstable();
        Ok(partitions.into_iter().map(|partition| TopicPartition { topic: Arc::clone(&name), partition }).collect())
    }

    /// Makes topics. One that exists stays as it is; what differs from the wish is reported.
    ///
    /// # Errors
    /// A topic could not be made; those before it were.
    pub async fn create_topics(&self, topics: &[NewTopic]) -> Result<Vec<Created>, Error> {
        let native = topics.iter().map(|topic| {
            let native = NativeTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
            topic.settings.iter().fold(native, |native, (name, value)| native.set(name, value))
        });
        let native: Vec<_> = native.collect();
        let what = "cannot make topics";
        let results = self.client.create_topics(&native, &options()).await.map_err(|error| self.failed(&error, what))?;
        let mut created = Vec::with_capacity(topics.len());
        for topic in topics {
            let failure = results.iter().find_map(|result| match result {
                Err((name, code)) if *name == topic.name => Some(Code::from(*code)),
                _ => None,
            });
            created.push(match failure {
                None => Created { name: topic.name.clone(), made: true, partitions: topic.partitions, differs: Vec::new() },
                Some(Code::TOPIC_ALREADY_EXISTS) => self.existing(topic).await?,
                Some(code) => return Err(Error::from_code(code, format_args!("cannot make topic {}", topic.name))),
            });
        }
        Ok(created)
    }

    async fn existing(&self, topic: &NewTopic) -> Result<Created, Error> {
        let partitions = count(self.partitions(&topic.name).await?.len());
        let found = if topic.settings.is_empty() { Vec::new() } else { self.settings(&topic.name).await? };
        let found = |name: &str| found.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        let wanted = topic.settings.iter().map(|(name, value)| (name.clone(), value.clone(), found(name)));
        let wanted = wanted.chain([("partitions".into(), topic.partitions.to_string(), Some(partitions.to_string()))]);
        let differs = wanted
            .filter(|(_, wanted, found)| found.as_ref() != Some(wanted))
            .map(|(name, wanted, found)| SettingDiffers { name, wanted, found })
            .collect();
        Ok(Created { name: topic.name.clone(), made: false, partitions, differs })
    }

    /// The settings of a topic that have a value, by Kafka's names.
    ///
    /// # Errors
    /// The brokers could not be asked, or the topic does not exist.
    pub async fn settings(&self, topic: &str) -> Result<Vec<(String, String)>, Error> {
        let what = format!("cannot read the settings of {topic}");
        let described = self.client.describe_configs(&[ResourceSpecifier::Topic(topic)], &options()).await;
        let mut settings = Vec::new();
        for resource in described.map_err(|error| self.failed(&error, &what))? {
            let resource = resource.map_err(|code| Error::from_code(code.into(), &what))?;
            settings.extend(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(settings)
    }

    /// First offset of the log and the offset after its last record.
    ///
    /// # Errors
    /// The brokers could not be asked, or the partition does not exist.
    pub async fn watermarks(&self, partition: &TopicPartition) -> Result<(i64, i64), Error> {
        let ends = positions::ends(&self.handle, std::slice::from_ref(partition), WAIT_MS).await;
        let ends = ends.map_err(|error| self.explain(error))?;
        ends.get(partition)
            .copied()
            .ok_or_else(|| Error::Unavailable(format!("the brokers said nothing about {partition}; ask again")))
    }

    /// The offset after the last record of each partition.
    ///
    /// # Errors
    /// The brokers could not be asked, or a partition does not exist.
    pub async fn log_ends(&self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let ends = positions::offsets(&self.handle, partitions, End::Last, WAIT_MS).await;
        Ok(ends.map_err(|error| self.explain(error))?.into_iter().collect())
    }

    /// How far `group` is in the partitions of `topics`, in order of partition; topics that do not exist are left out.
    ///
    /// # Errors
    /// The brokers could not be asked.
    pub async fn lag(&self, group: &str, topics: &[&str]) -> Result<Vec<Lag>, Error> {
        let mut partitions = Vec::new();
        for topic in topics {
            partitions.extend(self.partitions(topic).await?);
        }
        let (ends, committed) = tokio::try_join!(
            positions::ends(&self.handle, &partitions, WAIT_MS),
            positions::committed(&self.handle, group, Some(&partitions), WAIT_MS)
        )
        .map_err(|error| self.explain(error))?;
        let lag = |partition: TopicPartition| {
            let (log_start, log_end) = ends.get(&partition).copied()?;
            Some(Lag { committed: committed.get(&partition).copied(), partition, log_start, log_end })
        };
        Ok(partitions.into_iter().filter_map(lag).collect())
    }

    /// The topics that `group` has committed offsets in, sorted.
    ///
    /// # Errors
    /// The brokers could not be asked.
    pub async fn topics_of_group(&self, group: &str) -> Result<Vec<String>, Error> {
        let committed = positions::committed(&self.handle, group, None, WAIT_MS).await.map_err(|error| self.explain(error))?;
        let topics: BTreeSet<_> = committed.into_keys().map(|partition| partition.topic.to_string()).collect();
        Ok(topics.into_iter().collect())
    }

    /// The groups that the brokers know, or the one that is named; sorted.
    ///
    /// # Errors
    /// The brokers could not be asked.
    pub async fn groups(&self, name: Option<&str>) -> Result<Vec<GroupSummary>, Error> {
        let (client, asked) = (Arc::clone(&self.client), name.map(str::to_owned));
        let groups = blocking(move || {
            let groups = client.inner().fetch_group_list(asked.as_deref(), WAIT)?;
            let summary = groups.groups().iter().map(|group| GroupSummary {
                name: group.name().to_owned(),
                state: group.state().to_owned(),
                members: group.members().iter().map(|member| member.id().to_owned()).collect(),
            });
            Ok(summary.collect::<Vec<_>>())
        });
        let mut groups = groups.await?.map_err(|error| self.failed(&error, "cannot list the consumer groups"))?;
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// Removes the records of a partition below `before`.
    ///
    /// # Errors
    /// The brokers could not be asked, or refused.
    pub async fn delete_records(&self, partition: &TopicPartition, before: i64) -> Result<(), Error> {
        let what = format!("cannot delete the records of {partition} before {before}");
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(before))
            .map_err(|error| self.failed(&error, &what))?;
        let deleted = self.client.delete_records(&list, &options()).await.map_err(|error| self.failed(&error, &what))?;
        match deleted.elements().first().map(|element| element.error()) {
            Some(Err(error)) => Err(self.failed(&error, what)),
            _ => Ok(()),
        }
    }

    fn failed(&self, error: &KafkaError, what: impl fmt::Display) -> Error {
        self.explain(Error::from_rdkafka(error, what))
    }

    /// A broker that refuses the client lets its requests time out.
    fn explain(&self, error: Error) -> Error {
        match (error, self.client.inner().context().refused()) {
            (Error::Unavailable(_), Some(refused)) => refused,
            (error, _) => error,
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT))
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Runs a call of librdkafka that blocks, within its own limit.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    task::spawn_blocking(call).await.map_err(|error| Error::Fatal(format!("a call of the Kafka client ended: {error}")))
}

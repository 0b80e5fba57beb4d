//! CreateTopics, DeleteTopics, CreatePartitions.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
        DeleteTopicsResponse,
        create_partitions_response::CreatePartitionsTopicResult,
        create_topics_request::CreatableTopic,
        create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
        delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
};
use tokio::task;
use uuid::Uuid;

use super::{Reply, configs, text, topic_name};
use crate::{
    broker::{Core, now_ms},
    topics::{Refusal, Setting, Topic, TopicSettings},
    wire::frame::{FrameError, Request},
};

/// "The broker decides", for numbers of partitions and replicas.
const DEFAULT: i32 = -1;
const REPLICAS: i16 = 1;

pub(super) fn create(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: CreateTopicsRequest = request.decode()?;
    let created = asked.topics.into_iter().map(|topic| {
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        match create_one(core, topic, asked.validate_only) {
            Ok((id, partitions, settings, overrides)) => {
                let configs = Setting::ALL.iter().map(|setting| {
                    CreatableTopicConfigs::default()
                        .with_name(text(setting.name))
                        .with_value(Some(text(setting.value(&settings))))
                        .with_config_source(configs::source(overrides.contains_key(setting.name)))
                });
                result
                    .with_topic_id(id)
                    .with_num_partitions(partitions)
                    .with_replication_factor(REPLICAS)
                    .with_configs(Some(configs.collect()))
            }
            Err((error, reason)) => result
                .with_error_code(error.code())
                .with_error_message(Some(text(reason)))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    });
    let created = created.collect();
    request.answer(&CreateTopicsResponse::default().with_topics(created))
}

type Created = (Uuid, i32, TopicSettings, BTreeMap<String, String>);

fn create_one(core: &Core, topic: CreatableTopic, validate_only: bool) -> Result<Created, Refusal> {
    if !topic.assignments.is_empty() && topic.assignments.iter().any(|assigned| assigned.broker_ids.len() != 1) {
        let message = "there is one broker: a partition has one replica".into();
        return Err((ResponseError::InvalidReplicaAssignment, message));
    }
    if topic.assignments.is_empty() && ![i16::try_from(DEFAULT).unwrap_or(-1), REPLICAS].contains(&topic.replication_factor) {
        let message = format!("there is one broker: the replication factor is 1, not {}", topic.replication_factor);
        return Err((ResponseError::InvalidReplicationFactor, message));
    }
    let partitions = match topic.num_partitions {
        DEFAULT if topic.assignments.is_empty() => core.config.default_partitions,
        DEFAULT => i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX),
        partitions => partitions,
    };
    let mut overrides = BTreeMap::new();
    for config in topic.configs {
        if let Some(value) = config.value {
            overrides.insert(config.name.to_string(), value.to_string());
        }
    }
    let made = core.topics.create(&topic.name, partitions, overrides.clone(), validate_only, now_ms())?;
    let settings = TopicSettings::with(core.topics.defaults(), &overrides)
        .map_err(|error| (ResponseError::InvalidConfig, error.to_string()))?;
    Ok((made.map_or(Uuid::nil(), |topic| topic.id), partitions, settings, overrides))
}

pub(super) async fn delete(core: &Arc<Core>, request: Request) -> Result<Reply, FrameError> {
    let asked: DeleteTopicsRequest = request.decode()?;
    let named = asked.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let mut responses = Vec::new();
    for asked in asked.topics.into_iter().chain(named) {
        let topic = match &asked.name {
            Some(name) => core.topics.by_name(name),
            None => core.topics.by_id(asked.topic_id),
        };
        let unknown = if asked.name.is_some() { ResponseError::UnknownTopicOrPartition } else { ResponseError::UnknownTopicId };
        let result = DeletableTopicResult::default().with_name(asked.name).with_topic_id(asked.topic_id);
        responses.push(match topic {
            Some(topic) => {
                let result = result.with_name(Some(topic_name(&topic.name))).with_topic_id(topic.id);
                match delete_one(core, topic).await {
                    Ok(()) => result,
                    Err((error, reason)) => result.with_error_code(error.code()).with_error_message(Some(text(reason))),
                }
            }
            None => result.with_error_code(unknown.code()),
        });
    }
    request.answer(&DeleteTopicsResponse::default().with_responses(responses)).map(Reply::Now)
}

async fn delete_one(core: &Arc<Core>, topic: Arc<Topic>) -> Result<(), Refusal> {
    let deleting = Arc::clone(core);
    let name = topic.name.clone();
    let deleted = task::spawn_blocking(move || deleting.topics.delete(&topic)).await;
    deleted.map_err(|panic| (ResponseError::UnknownServerError, panic.to_string()))??;
    let forgotten = core.groups.forget_topic(&name).await;
    forgotten.map_err(|error| (error, "the topic is deleted, but groups still have offsets in it".into()))
}

pub(super) fn create_partitions(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: CreatePartitionsRequest = request.decode()?;
    let results = asked.topics.into_iter().map(|topic| {
        let unknown = || (ResponseError::UnknownTopicOrPartition, "there is no such topic".to_owned());
        let found = core.topics.by_name(&topic.name).ok_or_else(unknown);
        let grown = found.and_then(|found| core.topics.grow(&found, topic.count, asked.validate_only, now_ms()));
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        match grown {
            Ok(()) => result,
            Err((error, reason)) => result.with_error_code(error.code()).with_error_message(Some(text(reason))),
        }
    });
    let results = results.collect();
    request.answer(&CreatePartitionsResponse::default().with_results(results))
}

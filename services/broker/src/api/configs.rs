//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
        IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
        alter_configs_response::AlterConfigsResourceResponse,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym},
        incremental_alter_configs_request::AlterableConfig,
        incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse,
    },
};

use super::text;
use crate::{
    broker::{Core, NODE_ID},
    topics::{Refusal, Setting},
    wire::frame::{FrameError, Request},
};

/// Kafka's `ConfigResource.Type`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Kafka's `ConfigSource`.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_DEFAULT: i8 = 5;
/// Kafka's `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Where a topic's setting comes from.
pub(super) fn source(overridden: bool) -> i8 {
    if overridden { SOURCE_TOPIC } else { SOURCE_DEFAULT }
}

pub(super) fn describe(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: DescribeConfigsRequest = request.decode()?;
    let results = asked.resources.into_iter().map(|resource| {
        let described = describe_one(core, &resource, asked.include_synonyms, asked.include_documentation);
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match described {
            Ok(configs) => result.with_configs(configs),
            Err((error, reason)) => result.with_error_code(error.code()).with_error_message(Some(text(reason))),
        }
    });
    let results = results.collect();
    request.answer(&DescribeConfigsResponse::default().with_results(results))
}

fn describe_one(
    core: &Core,
    resource: &DescribeConfigsResource,
    synonyms: bool,
    documentation: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    if resource.resource_type == BROKER && [NODE_ID.to_string().as_str(), ""].contains(&&*resource.resource_name) {
        // The broker's own settings stand in the configuration of its process.
        return Ok(Vec::new());
    }
    let topic = topic(core, resource.resource_type, &resource.resource_name)?;
    let (settings, overrides) = (topic.settings(), topic.overrides());
    let wanted = |setting: &&Setting| {
        resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| **key == *setting.name))
    };
    let configs = Setting::ALL.iter().filter(wanted).map(|setting| {
        let source = source(overrides.contains_key(setting.name));
        let value = || Some(text(setting.value(&settings)));
        let mut config = DescribeConfigsResourceResult::default()
            .with_name(text(setting.name))
            .with_value(value())
            .with_config_source(source)
            .with_config_type(setting.value_type as i8);
        if synonyms {
            let default = DescribeConfigsSynonym::default()
                .with_name(text(setting.name))
                .with_value(Some(text(setting.value(core.topics.defaults()))))
                .with_source(SOURCE_DEFAULT);
            let own = DescribeConfigsSynonym::default().with_name(text(setting.name)).with_value(value()).with_source(source);
            config = config.with_synonyms(if source == SOURCE_TOPIC { vec![own, default] } else { vec![default] });
        }
        if documentation {
            config = config.with_documentation(Some(text(setting.documentation)));
        }
        config
    });
    Ok(configs.collect())
}

pub(super) fn alter(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: AlterConfigsRequest = request.decode()?;
    let responses = asked.resources.into_iter().map(|resource| {
        let altered = topic(core, resource.resource_type, &resource.resource_name).and_then(|topic| {
            let replace = |overrides: &mut BTreeMap<String, String>| {
                let given = resource.configs.iter().filter_map(|config| Some((&config.name, config.value.as_ref()?)));
                *overrides = given.map(|(name, value)| (name.to_string(), value.to_string())).collect();
                Ok(())
            };
            core.topics.configure(&topic, replace, asked.validate_only)
        });
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match altered {
            Ok(()) => response,
            Err((error, reason)) => response.with_error_code(error.code()).with_error_message(Some(text(reason))),
        }
    });
    let responses = responses.collect();
    request.answer(&AlterConfigsResponse::default().with_responses(responses))
}

pub(super) fn alter_incrementally(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: IncrementalAlterConfigsRequest = request.decode()?;
    let responses = asked.resources.into_iter().map(|resource| {
        let altered = topic(core, resource.resource_type, &resource.resource_name).and_then(|topic| {
            let settings = topic.settings();
            let change = |overrides: &mut BTreeMap<String, String>| {
                resource.configs.iter().try_for_each(|config| {
                    let now = Setting::named(&config.name).map(|setting| setting.value(&settings));
                    let now = now.map_err(|error| (ResponseError::InvalidConfig, error.to_string()))?;
                    apply(overrides, config, &now)
                })
            };
            core.topics.configure(&topic, change, asked.validate_only)
        });
        let response =
            IncrementalResponse::default().with_resource_type(resource.resource_type).with_resource_name(resource.resource_name);
        match altered {
            Ok(()) => response,
            Err((error, reason)) => response.with_error_code(error.code()).with_error_message(Some(text(reason))),
        }
    });
    let responses = responses.collect();
    request.answer(&IncrementalAlterConfigsResponse::default().with_responses(responses))
}

fn apply(overrides: &mut BTreeMap<String, String>, config: &AlterableConfig, now: &str) -> Result<(), Refusal> {
    let name = config.name.to_string();
    let value = || {
        let missing = || (ResponseError::InvalidConfig, format!("{name} is given no value"));
        config.value.as_ref().map(|value| value.to_string()).ok_or_else(missing)
    };
    match config.config_operation {
        SET => drop(overrides.insert(name.clone(), value()?)),
        DELETE => drop(overrides.remove(&name)),
        operation @ (APPEND | SUBTRACT) => {
            let value = value()?;
            let changed: Vec<_> = value.split(',').map(str::trim).collect();
            let mut items: Vec<_> = now.split(',').filter(|item| !changed.contains(item)).collect();
            if operation == APPEND {
                items.extend(changed);
            }
            overrides.insert(name, items.join(","));
        }
        operation => return Err((ResponseError::InvalidRequest, format!("unknown operation {operation} on {name}"))),
    }
    Ok(())
}

fn topic(core: &Core, resource_type: i8, name: &str) -> Result<std::sync::Arc<crate::topics::Topic>, Refusal> {
    if resource_type != TOPIC {
        return Err((ResponseError::InvalidRequest, "only topics have settings that can be read and changed here".into()));
    }
    core.topics.by_name(name).ok_or_else(|| (ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}")))
}

//! Members of groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup; groups as a whole: ListGroups, DescribeGroups, DeleteGroups.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId, HeartbeatRequest,
        HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
        ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
        delete_groups_response::DeletableGroupResult,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
        join_group_response::JoinGroupResponseMember,
        leave_group_request::MemberIdentity,
        leave_group_response::MemberResponse,
        list_groups_response::ListedGroup,
    },
    protocol::StrBytes,
};

use super::{NONE, Reply, code, later, text};
use crate::{
    broker::Core,
    groups::group::{Assigned, Join, Joined, Sync},
    wire::frame::{FrameError, Request},
};

/// First versions that know an error or a field.
const JOIN_REQUIRES_ID: i16 = 4;
const JOIN_CAN_SKIP: i16 = 9;
const DESCRIBE_HAS_NOT_FOUND: i16 = 6;
/// Kafka's name for groups of the protocol that is served here.
const CLASSIC: &str = "classic";
const DEAD: &str = "Dead";
const OPERATIONS_UNKNOWN: i32 = i32::MIN;
/// Longest rebalance that a member may ask for.
const REBALANCE_TIMEOUT_MAX_MS: i32 = 60 * 60_000;

pub(super) fn join(core: &Arc<Core>, host: &str, request: Request) -> Result<Reply, FrameError> {
    let asked: JoinGroupRequest = request.decode()?;
    let (config, limits) = (core.groups.config(), &core.config.limits);
    let session_ms = asked.session_timeout_ms;
    let metadata_bytes: usize = asked.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum();
    let refused = if !(config.session_timeout_min_ms..=config.session_timeout_max_ms).contains(&session_ms) {
        Some(ResponseError::InvalidSessionTimeout)
    } else if metadata_bytes > limits.member_metadata_bytes_max {
        Some(ResponseError::InvalidRequest)
    } else {
        None
    };
    if let Some(error) = refused {
        return request.answer(&joined(Joined::refused(error, &asked.member_id))).map(Reply::Now);
    }
    // Version 0 knows one timeout for both.
    let rebalance_ms = if request.version == 0 { session_ms } else { asked.rebalance_timeout_ms };
    let join = Join {
        member_id: asked.member_id.to_string(),
        instance: asked.group_instance_id.map(|instance| instance.to_string()),
        client_id: request.client_id.clone(),
        host: format!("/{host}"),
        session_timeout: Duration::from_millis(session_ms.unsigned_abs().into()),
        rebalance_timeout: Duration::from_millis(rebalance_ms.clamp(0, REBALANCE_TIMEOUT_MAX_MS).unsigned_abs().into()),
        protocol_type: asked.protocol_type.to_string(),
        // Copied, so that a member does not hold the whole frame.
        protocols: asked
            .protocols
            .iter()
            .map(|protocol| (protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata)))
            .collect(),
        id_required: request.version >= JOIN_REQUIRES_ID,
        can_skip_assignment: request.version >= JOIN_CAN_SKIP,
    };
    let members_max = limits.members_per_group_max;
    let member_id = join.member_id.clone();
    let waits = core.groups.with_or_new(&asked.group_id, |group| group.join(join, members_max, Instant::now()));
    Ok(later(async move {
        let answer = match waits {
            Ok(waits) => waits.await.unwrap_or_else(|_| Joined::refused(ResponseError::CoordinatorNotAvailable, &member_id)),
            Err(error) => Joined::refused(error, &member_id),
        };
        request.answer(&joined(answer))
    }))
}

fn joined(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(id, instance, metadata)| {
        JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text))
            .with_metadata(metadata)
    });
    // Before version 7 the name may not be null.
    let protocol = joined.protocol.or_else(|| joined.error.map(|_| String::new()));
    JoinGroupResponse::default()
        .with_error_code(joined.error.map_or(NONE, |error| error.code()))
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.map(text))
        .with_protocol_name(protocol.map(text))
        .with_leader(text(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(joined.member_id))
        .with_members(members.collect())
}

pub(super) fn sync(core: &Arc<Core>, request: Request) -> Result<Reply, FrameError> {
    let asked: SyncGroupRequest = request.decode()?;
    let largest = asked.assignments.iter().map(|assignment| assignment.assignment.len()).max().unwrap_or(0);
    let assigns = !asked.assignments.is_empty();
    let group_id = asked.group_id.to_string();
    let waits = if largest > core.config.limits.member_metadata_bytes_max {
        Err(ResponseError::InvalidRequest)
    } else {
        let sync = Sync {
            member_id: asked.member_id.to_string(),
            instance: owned(asked.group_instance_id),
            generation: asked.generation_id,
            protocol_type: owned(asked.protocol_type),
            protocol: owned(asked.protocol_name),
            assignments: asked
                .assignments
                .iter()
                .map(|assigned| (assigned.member_id.to_string(), Bytes::copy_from_slice(&assigned.assignment)))
                .collect(),
        };
        core.groups.with(&group_id, |group| group.sync(sync, Instant::now())).ok_or(ResponseError::UnknownMemberId)
    };
    let core = Arc::clone(core);
    Ok(later(async move {
        let mut synced = match waits {
            Ok(waits) => waits.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable)),
            Err(error) => Err(error),
        };
        if assigns && synced.is_ok() {
            // The leader's answer waits until retention knows what the group reads.
            synced = core.groups.register(&group_id).await.and(synced);
        }
        let response = SyncGroupResponse::default();
        request.answer(&match synced {
            Ok(Assigned { protocol_type, protocol, assignment }) => response
                .with_protocol_type(protocol_type.map(text))
                .with_protocol_name(protocol.map(text))
                .with_assignment(assignment),
            Err(error) => response.with_error_code(error.code()),
        })
    }))
}

pub(super) fn heartbeat(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: HeartbeatRequest = request.decode()?;
    let instance = asked.group_instance_id.as_deref();
    let alive = core
        .groups
        .with(&asked.group_id, |group| group.heartbeat(&asked.member_id, instance, asked.generation_id, Instant::now()));
    let alive = alive.unwrap_or(Err(ResponseError::UnknownMemberId));
    request.answer(&HeartbeatResponse::default().with_error_code(code(&alive)))
}

pub(super) fn leave(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: LeaveGroupRequest = request.decode()?;
    let leave = |member_id: &str, instance: Option<&str>| {
        let left = core.groups.with(&asked.group_id, |group| group.leave(member_id, instance, Instant::now()));
        left.unwrap_or(Err(ResponseError::UnknownMemberId))
    };
    if request.version < 3 {
        let left = leave(&asked.member_id, None);
        return request.answer(&LeaveGroupResponse::default().with_error_code(code(&left)));
    }
    let members = asked.members.into_iter().map(|MemberIdentity { member_id, group_instance_id, .. }| {
        let left = leave(&member_id, group_instance_id.as_deref());
        MemberResponse::default().with_member_id(member_id).with_group_instance_id(group_instance_id).with_error_code(code(&left))
    });
    let members = members.collect();
    request.answer(&LeaveGroupResponse::default().with_members(members))
}

pub(super) fn list(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: ListGroupsRequest = request.decode()?;
    let allows =
        |filter: &[StrBytes], value: &str| filter.is_empty() || filter.iter().any(|allowed| allowed.eq_ignore_ascii_case(value));
    let groups = core.groups.all().into_iter();
    let groups =
        groups.filter(|(_, group)| allows(&asked.states_filter, group.state.name()) && allows(&asked.types_filter, CLASSIC));
    let groups = groups.map(|(name, group)| {
        ListedGroup::default()
            .with_group_id(GroupId(text(name)))
            .with_protocol_type(text(group.protocol_type))
            .with_group_state(text(group.state.name()))
            .with_group_type(text(CLASSIC))
    });
    request.answer(&ListGroupsResponse::default().with_groups(groups.collect()))
}

pub(super) fn describe(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: DescribeGroupsRequest = request.decode()?;
    let groups = asked.groups.into_iter().map(|name| {
        let overview = core.groups.overview(&name);
        let described = DescribedGroup::default().with_group_id(name).with_authorized_operations(OPERATIONS_UNKNOWN);
        let Some(overview) = overview else {
            let described = described.with_group_state(text(DEAD));
            return if request.version >= DESCRIBE_HAS_NOT_FOUND {
                described.with_error_code(ResponseError::GroupIdNotFound.code())
            } else {
                described
            };
        };
        let members = overview.members.into_iter().map(|member| {
            DescribedGroupMember::default()
                .with_member_id(text(member.member_id))
                .with_group_instance_id(member.instance.map(text))
                .with_client_id(text(member.client_id))
                .with_client_host(text(member.host))
                .with_member_metadata(member.metadata)
                .with_member_assignment(member.assignment)
        });
        described
            .with_group_state(text(overview.state.name()))
            .with_protocol_type(text(overview.protocol_type))
            .with_protocol_data(text(overview.protocol))
            .with_members(members.collect())
    });
    let groups = groups.collect();
    request.answer(&DescribeGroupsResponse::default().with_groups(groups))
}

pub(super) async fn delete(core: &Core, request: Request) -> Result<Reply, FrameError> {
    let asked: DeleteGroupsRequest = request.decode()?;
    let mut results = Vec::new();
    for name in asked.groups_names {
        let deleted = core.groups.delete(&name).await;
        results.push(DeletableGroupResult::default().with_group_id(name).with_error_code(code(&deleted)));
    }
    request.answer(&DeleteGroupsResponse::default().with_results(results)).map(Reply::Now)
}

fn owned(text: Option<StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

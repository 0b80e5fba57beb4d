//! One consumer group in the classic protocol, as a state machine that knows neither sockets nor clocks.
//!
//! ```text
//! Empty --join--> PreparingRebalance --all joined, or deadline--> CompletingRebalance --leader's assignment--> Stable
//!                        ^------ join, leave, expiry, changed subscription ------'---------------------------'
//! ```
//!
//! The rules are those of Kafka's `GroupCoordinator`; static membership is KIP-345, the member id that is required before
//! joining KIP-394, the skipped assignment KIP-814.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use kafka_protocol::{ResponseError, messages::ConsumerProtocolSubscription, protocol::Decodable};
use tokio::sync::oneshot;
use uuid::Uuid;

/// The protocol type of consumers; others (Connect) keep what they like in their metadata.
const CONSUMER: &str = "consumer";
/// Most topics that are taken from one member's subscription.
const SUBSCRIBED_TOPICS_MAX: usize = 10_000;

/// A group's place in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

/// A group and its members.
#[derive(Debug)]
pub(crate) struct Group {
    state: State,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member id of each `group.instance.id`.
    instances: HashMap<String, String>,
    /// Ids that were handed out and have not come back yet, with the time until which they may.
    pending: HashMap<String, Instant>,
    /// When a rebalance goes on without those who have not come.
    deadline: Option<Instant>,
    /// A first rebalance waits until its deadline even if all have joined.
    waits_for_more: bool,
    initial_delay: Duration,
}

#[derive(Debug)]
struct Member {
    instance: Option<String>,
    client_id: String,
    host: String,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<(String, Bytes)>,
    assignment: Bytes,
    joining: Option<oneshot::Sender<Joined>>,
    syncing: Option<oneshot::Sender<Synced>>,
    session_ends: Instant,
}

/// A request to join.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) member_id: String,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// The client comes back with the id it is given (JoinGroup from version 4 on).
    pub(crate) id_required: bool,
    /// The client understands a leader that need not assign (JoinGroup from version 9 on).
    pub(crate) can_skip_assignment: bool,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) error: Option<ResponseError>,
    pub(crate) member_id: String,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    /// For the leader: everyone's id, instance and metadata.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

/// A request for the assignment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sync {
    pub(crate) member_id: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// The answer to a sync.
pub(crate) type Synced = Result<Assigned, ResponseError>;

/// A member's assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

/// A member as DescribeGroups shows it.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) member_id: String,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) host: String,
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

impl State {
    /// Kafka's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

impl Joined {
    /// A refused join.
    pub(crate) fn refused(error: ResponseError, member_id: &str) -> Joined {
        Joined {
            error: Some(error),
            member_id: member_id.into(),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

impl Group {
    pub(crate) fn new(initial_delay: Duration) -> Group {
        Group {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: HashMap::new(),
            deadline: None,
            waits_for_more: false,
            initial_delay,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether nobody is in it and nobody is about to come.
    pub(crate) fn is_deserted(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub(crate) fn protocol(&self) -> &str {
        self.protocol.as_deref().filter(|_| self.state == State::Stable).unwrap_or_default()
    }

    /// The topics that its consumers subscribe to.
    pub(crate) fn subscribed(&self) -> BTreeSet<String> {
        if self.protocol_type() != CONSUMER {
            return BTreeSet::new();
        }
        let metadata = self.members.values().filter_map(|member| member.protocols.first());
        metadata.flat_map(|(_, metadata)| subscription(metadata)).collect()
    }

    pub(crate) fn described(&self) -> Vec<Described> {
        let stable = self.state == State::Stable;
        let members = self.members.iter().map(|(id, member)| Described {
            member_id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            host: member.host.clone(),
            metadata: if stable { member.metadata(self.protocol()) } else { Bytes::new() },
            assignment: if stable { member.assignment.clone() } else { Bytes::new() },
        });
        members.collect()
    }

    /// Takes a member in, or back. The answer comes when the rebalance is complete, unless it is known at once.
    pub(crate) fn join(&mut self, join: Join, members_max: usize, now: Instant) -> oneshot::Receiver<Joined> {
        let (sender, receiver) = oneshot::channel();
        let refuse = |sender: oneshot::Sender<Joined>, error, id: &str| drop(sender.send(Joined::refused(error, id)));
        if !self.admits(&join) {
            refuse(sender, ResponseError::InconsistentGroupProtocol, &join.member_id);
        } else if join.member_id.is_empty() {
            self.join_new(join, members_max, sender, now);
        } else if self.pending.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            self.add(id, join, sender, now);
        } else if let Err(error) = self.check_member(&join.member_id, join.instance.as_deref()) {
            refuse(sender, error, &join.member_id);
        } else {
            self.join_again(join, sender, now);
        }
        receiver
    }

    /// Takes the leader's assignments and hands out a member's own. The answer waits for the leader.
    pub(crate) fn sync(&mut self, sync: Sync, now: Instant) -> oneshot::Receiver<Synced> {
        let (sender, receiver) = oneshot::channel();
        if let Err(error) = self.check_sync(&sync) {
            let _ = sender.send(Err(error));
            return receiver;
        }
        let assigned = self.assigned(&sync.member_id);
        let leads = self.leader.as_deref() == Some(sync.member_id.as_str());
        let Some(member) = self.members.get_mut(&sync.member_id) else { return receiver };
        member.session_ends = now + member.session_timeout;
        match self.state {
            State::Empty => drop(sender.send(Err(ResponseError::UnknownMemberId))),
            State::PreparingRebalance => drop(sender.send(Err(ResponseError::RebalanceInProgress))),
            State::Stable => drop(sender.send(Ok(assigned))),
            State::CompletingRebalance => {
                member.syncing = Some(sender);
                if leads {
                    self.assign(sync.assignments, now);
                }
            }
        }
        receiver
    }

    pub(crate) fn heartbeat(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), ResponseError> {
        self.check_member(member_id, instance)?;
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_ends = now + member.session_timeout;
        }
        if self.state == State::PreparingRebalance { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// Lets a member go: by its id, or by its instance alone (an operator removes a static member).
    pub(crate) fn leave(&mut self, member_id: &str, instance: Option<&str>, now: Instant) -> Result<(), ResponseError> {
        if self.pending.remove(member_id).is_some() {
            self.try_complete_join(now);
            return Ok(());
        }
        let id = match instance {
            Some(instance) if member_id.is_empty() => {
                self.instances.get(instance).cloned().ok_or(ResponseError::UnknownMemberId)?
            }
            _ => {
                self.check_member(member_id, instance)?;
                member_id.to_owned()
            }
        };
        self.remove(&id, ResponseError::UnknownMemberId);
        self.rebalance(now);
        Ok(())
    }

    /// Whether a commit of this member in this generation may be taken. Consumers that assign their partitions themselves
    /// come with generation -1.
    pub(crate) fn check_commit(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        self.check_member(member_id, instance)?;
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_ends = now + member.session_timeout;
        }
        if self.state == State::CompletingRebalance { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// Ends what is over: sessions, ids that never came back, rebalances that waited long enough.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.pending.retain(|_, until| *until > now);
        let expired: Vec<_> = self.members.iter().filter(|(_, member)| member.is_gone(now)).map(|(id, _)| id.clone()).collect();
        for id in &expired {
            tracing::info!(member = id, "session of a group member is over");
            self.remove(id, ResponseError::UnknownMemberId);
        }
        if !expired.is_empty() {
            self.rebalance(now);
        }
        let due = self.deadline.is_some_and(|deadline| now >= deadline);
        match self.state {
            State::PreparingRebalance if due => self.complete_join(now),
            State::PreparingRebalance => self.try_complete_join(now),
            State::CompletingRebalance if due => self.drop_those_who_did_not_sync(now),
            _ => {}
        }
    }

    /// Answers everyone who waits, because the broker shuts down: their answers' senders are dropped.
    pub(crate) fn release(&mut self) {
        for member in self.members.values_mut() {
            member.joining = None;
            member.syncing = None;
        }
    }

    fn join_new(&mut self, join: Join, members_max: usize, sender: oneshot::Sender<Joined>, now: Instant) {
        let prefix = join.instance.as_deref().unwrap_or(&join.client_id);
        let id = format!("{prefix}-{}", Uuid::new_v4());
        let replaced = join.instance.as_ref().and_then(|instance| self.instances.get(instance)).cloned();
        if let Some(old) = replaced {
            self.replace_static(&old, id, join, sender, now);
        } else if self.members.len() + self.pending.len() >= members_max {
            let _ = sender.send(Joined::refused(ResponseError::GroupMaxSizeReached, ""));
        } else if join.id_required && join.instance.is_none() {
            self.pending.insert(id.clone(), now + join.session_timeout);
            let _ = sender.send(Joined::refused(ResponseError::MemberIdRequired, &id));
        } else {
            self.add(id, join, sender, now);
        }
    }

    fn add(&mut self, id: String, join: Join, sender: oneshot::Sender<Joined>, now: Instant) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        let member = Member {
            instance: join.instance,
            client_id: join.client_id,
            host: join.host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            joining: Some(sender),
            syncing: None,
            session_ends: now + join.session_timeout,
        };
        self.leader.get_or_insert_with(|| id.clone());
        self.members.insert(id, member);
        self.rebalance(now);
    }

    /// A known member joins: it has changed, it has heard of a rebalance, or it has not got the last answer.
    fn join_again(&mut self, join: Join, sender: oneshot::Sender<Joined>, now: Instant) {
        let id = join.member_id.clone();
        let leads = self.leader.as_deref() == Some(id.as_str());
        let same = self.members.get(&id).is_some_and(|member| member.protocols == join.protocols);
        self.update(&id, join, now);
        match self.state {
            State::CompletingRebalance if same => drop(sender.send(self.joined(&id))),
            State::Stable if same && !leads => drop(sender.send(self.joined(&id))),
            _ => {
                self.wait_join(&id, sender);
                self.rebalance(now);
            }
        }
    }

    /// A static member comes back under a new id: the old id is fenced, and nothing is rebalanced if nothing changed.
    fn replace_static(&mut self, old: &str, id: String, join: Join, sender: oneshot::Sender<Joined>, now: Instant) {
        let Some(mut member) = self.members.remove(old) else { return };
        if let Some(joining) = member.joining.take() {
            let _ = joining.send(Joined::refused(ResponseError::FencedInstanceId, old));
        }
        if let Some(syncing) = member.syncing.take() {
            let _ = syncing.send(Err(ResponseError::FencedInstanceId));
        }
        let same = member.protocols == join.protocols;
        let old_leader = self.leader.clone();
        if old_leader.as_deref() == Some(old) {
            self.leader = Some(id.clone());
        }
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
        let can_skip = join.can_skip_assignment;
        self.update(&id, join, now);
        if self.state == State::Stable && same {
            let mut joined = self.joined(&id);
            if can_skip {
                joined.skip_assignment = !joined.members.is_empty();
            } else {
                // An older client that reads its own id here would assign anew and be ignored.
                joined.leader = old_leader.unwrap_or_default();
                joined.members.clear();
            }
            let _ = sender.send(joined);
        } else {
            self.wait_join(&id, sender);
            self.rebalance(now);
        }
    }

    fn wait_join(&mut self, id: &str, sender: oneshot::Sender<Joined>) {
        if let Some(member) = self.members.get_mut(id) {
            member.joining = Some(sender);
        }
    }

    fn update(&mut self, id: &str, join: Join, now: Instant) {
        if let Some(member) = self.members.get_mut(id) {
            member.client_id = join.client_id;
            member.host = join.host;
            member.session_timeout = join.session_timeout;
            member.rebalance_timeout = join.rebalance_timeout;
            member.protocols = join.protocols;
            member.session_ends = now + join.session_timeout;
        }
    }

    /// Begins a rebalance, or goes on with the one that is under way.
    fn rebalance(&mut self, now: Instant) {
        if self.state != State::PreparingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
                if let Some(syncing) = member.syncing.take() {
                    let _ = syncing.send(Err(ResponseError::RebalanceInProgress));
                }
            }
            self.waits_for_more = self.state == State::Empty && !self.initial_delay.is_zero();
            let wait = if self.waits_for_more { self.initial_delay } else { self.rebalance_timeout() };
            self.deadline = Some(now + wait);
            self.state = State::PreparingRebalance;
        }
        self.try_complete_join(now);
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn try_complete_join(&mut self, now: Instant) {
        let all = self.pending.is_empty() && self.members.values().all(Member::has_joined);
        if self.state == State::PreparingRebalance && all && (!self.waits_for_more || self.members.is_empty()) {
            self.complete_join(now);
        }
    }

    /// Goes on with those who have joined, and with static members, who may come back until their session is over.
    fn complete_join(&mut self, now: Instant) {
        let absent: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| !member.has_joined() && member.instance.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in absent {
            self.remove(&id, ResponseError::UnknownMemberId);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.waits_for_more = false;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.protocol = None;
            self.leader = None;
            self.deadline = None;
            return;
        }
        let leads = |id: &String| self.members.get(id).is_some_and(Member::has_joined);
        if !self.leader.as_ref().is_some_and(leads) {
            let Some((joined, _)) = self.members.iter().find(|(_, member)| member.has_joined()) else {
                // Only static members, none of them here: wait on.
                self.deadline = Some(now + self.rebalance_timeout().max(Duration::from_secs(1)));
                return;
            };
            self.leader = Some(joined.clone());
        }
        self.protocol = Some(self.elect_protocol());
        self.state = State::CompletingRebalance;
        self.deadline = Some(now + self.rebalance_timeout());
        let joined: Vec<_> = self.members.keys().map(|id| self.joined(id)).collect();
        for (member, joined) in self.members.values_mut().zip(joined) {
            if let Some(sender) = member.joining.take() {
                member.session_ends = now + member.session_timeout;
                let _ = sender.send(joined);
            }
        }
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now: Instant) {
        let mut assignments: HashMap<_, _> = assignments.into_iter().collect();
        self.state = State::Stable;
        self.deadline = None;
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
            if let Some(syncing) = member.syncing.take() {
                member.session_ends = now + member.session_timeout;
                let assignment = member.assignment.clone();
                let assigned = Assigned { protocol_type: protocol_type.clone(), protocol: protocol.clone(), assignment };
                let _ = syncing.send(Ok(assigned));
            }
        }
    }

    fn drop_those_who_did_not_sync(&mut self, now: Instant) {
        let absent: Vec<_> =
            self.members.iter().filter(|(_, member)| !member.waits_for_sync()).map(|(id, _)| id.clone()).collect();
        for id in absent {
            self.remove(&id, ResponseError::UnknownMemberId);
        }
        self.rebalance(now);
    }

    fn remove(&mut self, id: &str, told: ResponseError) {
        let Some(mut member) = self.members.remove(id) else { return };
        if let Some(joining) = member.joining.take() {
            let _ = joining.send(Joined::refused(told, id));
        }
        if let Some(syncing) = member.syncing.take() {
            let _ = syncing.send(Err(told));
        }
        if let Some(instance) = &member.instance
            && self.instances.get(instance).is_some_and(|current| current == id)
        {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn joined(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let everyone = || {
            let members = self.members.iter();
            members.map(|(id, member)| (id.clone(), member.instance.clone(), member.metadata(protocol))).collect()
        };
        Joined {
            error: None,
            member_id: id.into(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: if leader == id { everyone() } else { Vec::new() },
            leader,
            skip_assignment: false,
        }
    }

    fn assigned(&self, id: &str) -> Assigned {
        Assigned {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    /// Whether the newcomer speaks the group's type and at least one protocol that everyone else speaks too.
    fn admits(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        let replaced = join.instance.as_ref().and_then(|instance| self.instances.get(instance));
        let mut others = self.members.iter().filter(|(id, _)| **id != join.member_id && Some(*id) != replaced).peekable();
        if others.peek().is_none() {
            return true;
        }
        let others: Vec<_> = others.collect();
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join.protocols.iter().any(|(name, _)| others.iter().all(|(_, member)| member.speaks(name)))
    }

    /// Every member votes for the first of its protocols that all speak; the most votes win.
    fn elect_protocol(&self) -> String {
        let common = |name: &str| self.members.values().all(|member| member.speaks(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    fn check_member(&self, member_id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                Some(current) if current == member_id => {}
                Some(_) => return Err(ResponseError::FencedInstanceId),
                None => return Err(ResponseError::UnknownMemberId),
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
        self.check_member(&sync.member_id, sync.instance.as_deref())?;
        if sync.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        let differs = |told: &Option<String>, ours: &Option<String>| told.is_some() && told != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }
}

impl Member {
    /// Whether it waits for the rebalance to complete, on a connection that is still there.
    fn has_joined(&self) -> bool {
        self.joining.as_ref().is_some_and(|sender| !sender.is_closed())
    }

    fn waits_for_sync(&self) -> bool {
        self.syncing.as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// A member that waits for us need not send heartbeats.
    fn is_gone(&self, now: Instant) -> bool {
        now >= self.session_ends && !self.has_joined() && !self.waits_for_sync()
    }

    fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}

/// The topics in a consumer's subscription (Kafka's `ConsumerProtocolSubscription`: version, then the message); none if it
/// is not one. Counts are checked before the decoder may allocate for them.
fn subscription(metadata: &Bytes) -> Vec<String> {
    let mut rest = metadata.clone();
    let Some(&[_, _, c0, c1, c2, c3]) = rest.first_chunk() else { return Vec::new() };
    let topics = usize::try_from(i32::from_be_bytes([c0, c1, c2, c3])).unwrap_or(0);
    if topics > SUBSCRIBED_TOPICS_MAX || topics > metadata.len() {
        return Vec::new();
    }
    rest.advance(size_of::<i16>());
    // Version 0 is the beginning of every later one: topics and user data.
    let subscription = ConsumerProtocolSubscription::decode(&mut rest, 0);
    subscription.map(|subscription| subscription.topics.iter().map(|topic| topic.to_string()).collect()).unwrap_or_default()
}

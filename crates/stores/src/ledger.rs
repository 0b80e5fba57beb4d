//! Whose ledger it is.

/// Whose progress the ledger keeps. Offsets mean nothing on another cluster or to another consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerIdentity {
    /// The id of the Kafka cluster.
    pub cluster_id: String,
    /// The consumer group.
    pub group: String,
}

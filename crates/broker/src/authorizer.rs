//! Who may do what: the question every API asks before it acts, with the resource and the operation that Kafka's asks
//! for.
//!
//! Without an authorizer everybody may do everything, and asking costs one comparison. What decides is behind
//! [`Authorizer`]; the answer to a refusal is the API's own, with Kafka's code for the kind of resource.

use std::net::IpAddr;

use ottla_types::ErrorCode;

use crate::broker::Broker;
use crate::context::RequestContext;

/// The name of the cluster as a resource.
pub const CLUSTER: &str = "kafka-cluster";
/// Whoever comes over a listener that authenticates nobody.
const ANONYMOUS: &str = "User:ANONYMOUS";

/// Decides. Called on the way of every request: it must not block.
pub trait Authorizer: Send + Sync + 'static {
    fn allows(&self, client: &Client<'_>, operation: Operation, resource: Resource<'_>) -> bool;

    /// Whether there is a topic, whatever its name, to which the client may do this.
    fn allows_any_topic(&self, client: &Client<'_>, operation: Operation) -> bool;
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// As Kafka writes it, for example `User:alice`.
    pub principal: &'a str,
    pub host: IpAddr,
    pub listener: &'a str,
}

/// Kafka's operations, with their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

impl Operation {
    pub const ALL: [Operation; 10] = [
        Operation::Read,
        Operation::Write,
        Operation::Create,
        Operation::Delete,
        Operation::Alter,
        Operation::Describe,
        Operation::ClusterAction,
        Operation::DescribeConfigs,
        Operation::AlterConfigs,
        Operation::IdempotentWrite,
    ];
}

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
    Cluster,
}

impl Resource<'_> {
    /// What a client is told that may not use it.
    pub fn refusal(self) -> ErrorCode {
        match self {
            Resource::Topic(_) => ErrorCode::TopicAuthorizationFailed,
            Resource::Group(_) => ErrorCode::GroupAuthorizationFailed,
            Resource::TransactionalId(_) => ErrorCode::TransactionalIdAuthorizationFailed,
            Resource::Cluster => ErrorCode::ClusterAuthorizationFailed,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Resource::Topic(name) | Resource::Group(name) | Resource::TransactionalId(name) => name,
            Resource::Cluster => CLUSTER,
        }
    }
}

impl RequestContext {
    fn client(&self) -> Client<'_> {
        Client { principal: ANONYMOUS, host: self.connection.peer.ip(), listener: &self.connection.listener }
    }
}

impl Broker {
    /// Whether the client may do this.
    pub(crate) fn allows(&self, context: &RequestContext, operation: Operation, resource: Resource<'_>) -> bool {
        let Some(authorizer) = &self.authorizer else { return true };
        let allowed = authorizer.allows(&context.client(), operation, resource);
        if !allowed {
            tracing::debug!(?operation, ?resource, peer = %context.connection.peer, "not allowed");
        }
        allowed
    }

    /// The same, as an error.
    pub(crate) fn authorize(
        &self,
        context: &RequestContext,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<(), ErrorCode> {
        if self.allows(context, operation, resource) { Ok(()) } else { Err(resource.refusal()) }
    }

    /// Whether there may be a topic to which the client may do this.
    pub(crate) fn allows_any_topic(&self, context: &RequestContext, operation: Operation) -> bool {
        self.authorizer.as_ref().is_none_or(|authorizer| authorizer.allows_any_topic(&context.client(), operation))
    }

    /// Which of these operations, as bits, the client may do.
    pub(crate) fn authorized_operations(&self, context: &RequestContext, all: i32, resource: Resource<'_>) -> i32 {
        if self.authorizer.is_none() {
            return all;
        }
        let asked = Operation::ALL.into_iter().filter(|operation| all & (1 << *operation as u8) != 0);
        let allowed = asked.filter(|operation| self.allows(context, *operation, resource));
        allowed.fold(0, |bits, operation| bits | 1 << operation as u8)
    }
}

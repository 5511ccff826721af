//! ListGroups.

use crate::coordinator::GroupCoordinator;
use crate::request::ListedGroup;

impl GroupCoordinator {
    /// The groups, by group id. `states` are Kafka's state names in any case, perhaps with blanks
    /// around them; none asks for every state.
    pub fn handle_list(&self, states: &[&str]) -> Vec<ListedGroup> {
        self.groups
            .values()
            .filter(|live| {
                states.is_empty() || states.iter().any(|state| trimmed(state).eq_ignore_ascii_case(live.state.name()))
            })
            .map(|live| ListedGroup {
                group: live.group.clone(),
                protocol_type: live.protocol_type.clone().unwrap_or_default(),
                state: live.state,
            })
            .collect()
    }
}

/// Without what Java's `String.trim` takes away.
fn trimmed(state: &str) -> &str {
    state.trim_matches(|character: char| character <= ' ')
}

//! The state machine as a whole: hard state, live groups, timers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::group::LiveGroup;
use crate::handlers::Step;
use crate::hard::HardState;
use crate::outcome::{Effects, Now};
use crate::settings::GroupSettings;
use crate::timers::Timers;

/// The groups of one partition of `__consumer_offsets`. See the crate's documentation for how to drive it.
#[derive(Debug)]
pub struct GroupCoordinator {
    pub(crate) settings: GroupSettings,
    pub(crate) hard: HardState,
    pub(crate) groups: BTreeMap<Arc<str>, LiveGroup>,
    pub(crate) timers: Timers,
    /// Whether the partition's records have all been replayed; until then there are no live groups.
    pub(crate) loaded: bool,
    /// Where the search for expired offsets goes on, when one pass found more than it may tombstone.
    pub(crate) expiry_cursor: Option<Arc<str>>,
}

impl GroupCoordinator {
    /// A coordinator that has seen no record yet.
    pub fn new(settings: GroupSettings) -> Self {
        Self {
            settings,
            hard: HardState::default(),
            groups: BTreeMap::new(),
            timers: Timers::default(),
            loaded: false,
            expiry_cursor: None,
        }
    }

    /// What the records say.
    pub fn hard_state(&self) -> &HardState {
        &self.hard
    }

    /// A group as it is now.
    pub fn group(&self, group: &str) -> Option<&LiveGroup> {
        self.groups.get(group)
    }

    /// When [`handle_due_timer`](Self::handle_due_timer) is next to be called, by the monotonic clock.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.timers.next_deadline_ms()
    }

    /// Takes new settings; they concern what happens from now on.
    pub fn set_settings(&mut self, settings: GroupSettings) {
        self.settings = settings;
    }

    /// The group, with what is needed to move it.
    pub(crate) fn step<'a>(&'a mut self, group: &str, now: Now, effects: &'a mut Effects) -> Option<Step<'a>> {
        let group = self.groups.get_mut(group)?;
        Some(Step { group, timers: &mut self.timers, settings: &self.settings, effects, now })
    }
}

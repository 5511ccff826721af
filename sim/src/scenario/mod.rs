//! What is simulated.

mod broker;
mod log;
mod seam;

use crate::driver::Run;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// A store of fifty lines on the seam: checks the simulator itself.
    Seam,
    /// The storage engine against a model.
    Log,
    /// The broker under producers and a consumer.
    Broker,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Seam => "seam",
            Scenario::Log => "log",
            Scenario::Broker => "broker",
        }
    }

    pub fn run(self, run: &Run) -> anyhow::Result<()> {
        match self {
            Scenario::Seam => seam::run(run),
            Scenario::Log => log::run(run),
            Scenario::Broker => broker::run(run),
        }
    }
}

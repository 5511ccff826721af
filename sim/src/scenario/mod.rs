//! What is simulated.

mod seam;

use crate::driver::Run;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// A store of fifty lines on the seam: checks the simulator itself.
    Seam,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Seam => "seam",
        }
    }

    pub fn run(self, run: &Run) -> anyhow::Result<()> {
        match self {
            Scenario::Seam => seam::run(run),
        }
    }
}

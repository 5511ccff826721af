//! Files that come from the configuration keys: the facts about Kafka's, and the documentation of all.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Writes `crates/config/src/kafka_keys.rs` from Kafka's jars. Needs a JDK.
pub fn generate_facts(root: &Path, jars: &Path) -> Result<String> {
    let output = Command::new("java")
        .arg("-cp")
        .arg(jars.join("*"))
        .arg(root.join("xtask/java/ConfigKeys.java"))
        .output()
        .context("run java")?;
    if !output.status.success() {
        bail!("java failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let file = root.join("crates/config/src/kafka_keys.rs");
    std::fs::write(&file, &output.stdout).with_context(|| format!("write {}", file.display()))?;
    let formatted = Command::new("rustfmt").args(["--edition", "2024"]).arg(&file).status().context("run rustfmt")?;
    if !formatted.success() {
        bail!("rustfmt refuses {}", file.display());
    }
    Ok(format!("wrote {}", file.display()))
}

/// Writes `docs/config.md`.
pub fn generate_documentation(root: &Path) -> Result<String> {
    let file = root.join("docs/config.md");
    std::fs::write(&file, ottla_config::documentation()).with_context(|| format!("write {}", file.display()))?;
    Ok(format!("wrote {}", file.display()))
}

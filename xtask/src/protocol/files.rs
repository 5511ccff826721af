//! Writes what is generated, or compares it with what lies there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::schema::Family;

/// A file by its path below the protocol crate.
#[derive(Clone, Debug)]
pub struct GeneratedFile {
    pub path: PathBuf,
    pub text: String,
}

/// Writes the files that differ, and removes messages that are no longer generated.
pub fn write(crate_dir: &Path, files: &[GeneratedFile]) -> Result<String> {
    let mut changed = 0;
    for file in files {
        let path = crate_dir.join(&file.path);
        if fs::read_to_string(&path).is_ok_and(|present| present == file.text) {
            continue;
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, &file.text).with_context(|| format!("cannot write {}", path.display()))?;
        changed += 1;
    }
    let stale = stale(crate_dir, files)?;
    for path in &stale {
        fs::remove_file(crate_dir.join(path))?;
    }
    Ok(format!("{} files, {changed} written, {} removed", files.len(), stale.len()))
}

/// Fails, naming them, if files differ, are missing, or should not be there.
pub fn check(crate_dir: &Path, files: &[GeneratedFile]) -> Result<String> {
    let mut wrong: Vec<String> = files
        .iter()
        .filter(|file| fs::read_to_string(crate_dir.join(&file.path)).map_or(true, |present| present != file.text))
        .map(|file| format!("{} differs", file.path.display()))
        .collect();
    wrong.extend(stale(crate_dir, files)?.iter().map(|path| format!("{} is no longer generated", path.display())));
    if wrong.is_empty() {
        Ok(format!("{} files, as generated", files.len()))
    } else {
        bail!("{}\nrun `cargo run -p xtask -- generate-protocol` and commit the result", wrong.join("\n"))
    }
}

fn stale(crate_dir: &Path, files: &[GeneratedFile]) -> Result<Vec<PathBuf>> {
    let wanted: BTreeSet<&Path> = files.iter().map(|file| file.path.as_path()).collect();
    let mut stale = Vec::new();
    for family in [Family::Messages, Family::Records] {
        let module = Path::new("src").join(family.module());
        let Ok(entries) = fs::read_dir(crate_dir.join(&module)) else { continue };
        for entry in entries {
            let path = module.join(entry?.file_name());
            if !wanted.contains(path.as_path()) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}

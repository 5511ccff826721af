//! `docs/config.md` is written from the declared table.

use std::path::Path;

#[test]
fn the_documentation_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == ottla_config::documentation(),
        "docs/config.md is stale: run `cargo run -p xtask -- generate-config-docs`"
    );
}

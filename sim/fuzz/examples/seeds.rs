//! Writes the seeds of every target to `sim/fuzz/seeds/<target>/`: `just fuzz-seeds`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    for (name, _) in phantom_sim_fuzz::TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir)?;
        for (n, seed) in phantom_sim_fuzz::seeds::of(name).iter().enumerate() {
            std::fs::write(dir.join(format!("{n:02}")), seed)?;
        }
    }
    Ok(())
}

//! A container image of the static binary and nothing else, made by buildah.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Who it runs as: nobody of the machine.
const USER: &str = "10001:10001";

/// Makes it as an archive that `podman load` and `docker load` take; `None` where buildah is missing.
///
/// # Errors
/// buildah fails.
pub(super) fn archive(folder: &Path, roost: &Path, name: &str) -> Result<Option<PathBuf>> {
    let Ok(made) = Command::new("buildah")
        .args(["--storage-driver", "vfs", "from", "--format", "docker", "scratch"])
        .output()
    else {
        eprintln!("    no image: buildah is missing, install Debian package buildah");
        return Ok(None);
    };
    let container = String::from_utf8_lossy(&made.stdout).trim().to_string();
    ensure!(made.status.success(), "buildah from scratch: {}", String::from_utf8_lossy(&made.stderr));
    let empty = folder.join("empty");
    fs::create_dir_all(&empty)?;
    let archive = folder.join(format!("{name}.image.tar"));
    let _ = fs::remove_file(&archive);
    for step in steps(&container, roost, &empty, &archive) {
        let output = Command::new("buildah")
            .args(["--storage-driver", "vfs"])
            .args(&step)
            .output()
            .context("buildah")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "buildah {}: {said}", step.first().map_or("", String::as_str));
    }
    Ok(Some(archive))
}

/// What buildah is told, one after the other.
fn steps(container: &str, roost: &Path, empty: &Path, archive: &Path) -> Vec<Vec<String>> {
    let shown = |path: &Path| path.display().to_string();
    let (roost, settings) =
        (shown(roost), shown(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/image/roost.toml")));
    let to = format!("docker-archive:{}:localhost/roost:latest", archive.display());
    let version = format!("org.opencontainers.image.version={}", env!("CARGO_PKG_VERSION"));
    let licenses = "org.opencontainers.image.licenses=MIT OR Apache-2.0";
    let steps: [&[&str]; 6] = [
        &["copy", container, &roost, "/roost"],
        &["copy", container, &settings, "/etc/roost/roost.toml"],
        &["copy", "--chown", USER, container, &shown(empty), "/var/lib/roost"],
        &[
            "config",
            "--user",
            USER,
            "--workingdir",
            "/var/lib/roost",
            "--volume",
            "/var/lib/roost",
            "--port",
            "5060/udp",
            "--port",
            "5060/tcp",
            "--env",
            "ROOST_CONFIG=/etc/roost/roost.toml",
            "--entrypoint",
            "[\"/roost\"]",
            "--cmd",
            "serve",
            "--label",
            &version,
            "--label",
            licenses,
            "--healthcheck",
            "CMD /roost health",
            "--healthcheck-interval",
            "10s",
            container,
        ],
        &["commit", "--format", "docker", "--rm", container, "localhost/roost:latest"],
        &["push", "localhost/roost:latest", &to],
    ];
    steps.map(|step| step.iter().map(ToString::to_string).collect()).to_vec()
}

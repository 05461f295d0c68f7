//! The systemd units of packaging/: hardened, and with restarts that fit the programs' exit codes.

use std::path::{Path, PathBuf};
use std::process::Command;

use eyre::{Result, bail, ensure};
use stkr_e2e::process::{binary, workspace_root};
use stkr_node::exit::Exit;
use stkr_node::http::Limits;

/// Program, and the name that `init` gives its configuration.
const PROGRAMS: [(&str, &str); 3] =
    [("stkr-server", "server.toml"), ("stkr-gateway", "gateway.toml"), ("stkr-relayer", "relayer.toml")];

/// What each unit says, for every defence that must not get lost.
const HARDENED: [(&str, &str); 28] = [
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("PrivateUsers", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectProc", "invisible"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged @resources"),
    ("UMask", "0077"),
    ("StateDirectoryMode", "0700"),
    ("LimitCORE", "0"),
    ("MemorySwapMax", "0"),
];

fn unit(program: &str) -> PathBuf {
    workspace_root().join(format!("packaging/systemd/{program}.service"))
}

/// Settings in order; one may come several times.
fn settings(program: &str) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(unit(program))?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with('['));
    Ok(lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect())
}

fn values<'a>(settings: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    settings.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn every_unit_is_hardened_and_runs_its_program_as_a_user_of_its_own() -> Result<()> {
    let users = std::fs::read_to_string(workspace_root().join("packaging/sysusers.d/stkr.conf"))?;
    for (program, config) in PROGRAMS {
        let settings = settings(program)?;
        for (name, value) in HARDENED {
            ensure!(values(&settings, name).contains(&value), "{program}: {name}={value} is missing");
        }
        let start = format!("/usr/bin/{program} run --config /var/lib/{program}/{config} --log-format json");
        assert_eq!(values(&settings, "ExecStart"), [start.as_str()]);
        assert_eq!((values(&settings, "User"), values(&settings, "StateDirectory")), (vec![program], vec![program]));
        ensure!(users.contains(&format!("u {program} - ")), "{program} has no user");
        let help = Command::new(binary(program)?).args(["run", "--help"]).output()?;
        let help = String::from_utf8(help.stdout)?;
        ensure!(help.contains("--config") && help.contains("--log-format"), "{program}: {help}");
    }
    Ok(())
}

#[test]
fn restarts_leave_alone_what_a_person_has_to_look_at_and_stopping_waits_for_what_was_begun() -> Result<()> {
    for (program, _) in PROGRAMS {
        let settings = settings(program)?;
        assert_eq!(values(&settings, "Restart"), ["on-failure"]);
        let prevented = values(&settings, "RestartPreventExitStatus").join(" ");
        assert_eq!(prevented, format!("{} {}", Exit::Usage.code(), Exit::Unsafe.code()), "{program}");
        // An endpoint that is down for hours must not make systemd give up.
        assert_eq!(values(&settings, "StartLimitIntervalSec"), ["0"]);
        let stop: u64 = values(&settings, "TimeoutStopSec").concat().parse()?;
        ensure!(stop >= 3 * Limits::default().grace.as_secs(), "{program} is killed in the middle");
        assert_eq!(values(&settings, "KillSignal"), ["SIGTERM"]);
    }
    Ok(())
}

/// With the built binary in place of the installed one, which systemd looks for.
fn with_built_binary(program: &str, folder: &Path) -> Result<PathBuf> {
    let text = std::fs::read_to_string(unit(program))?;
    let built = binary(program)?.display().to_string();
    let path = folder.join(format!("{program}.service"));
    std::fs::write(&path, text.replace(&format!("/usr/bin/{program}"), &built))?;
    Ok(path)
}

#[test]
fn systemd_understands_every_line_and_finds_little_exposed() -> Result<()> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "systemd-analyze is not here");
        eprintln!("NOT RUN: systemd-analyze is not here");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    for (program, _) in PROGRAMS {
        let path = with_built_binary(program, folder.path())?;
        // At most 1.5 of 10: what is left is the network.
        for args in [
            ["verify", "--man=no", "--recursive-errors=no"].as_slice(),
            &["security", "--offline=true", "--threshold=15", "--no-pager"],
        ] {
            let output = Command::new("systemd-analyze").args(args).arg(&path).output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if !output.status.success() || (args.contains(&"verify") && !said.is_empty()) {
                bail!("{program}: systemd-analyze {args:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
            }
        }
    }
    let unknown = folder.path().join("stkr-server.service");
    let text = std::fs::read_to_string(&unknown)?.replace("ProtectHome=yes", "ProtectHome=perhaps");
    std::fs::write(&unknown, text)?;
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unknown).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(said.contains("perhaps"), "a wrong line would not be noticed: {said}");
    Ok(())
}

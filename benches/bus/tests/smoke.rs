//! The whole command, with short runs.

use std::process::Command;

#[test]
fn every_message_of_a_run_is_accounted_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (json, markdown) = (folder.path().join("json"), folder.path().join("markdown"));
    for only in ["busy, 128 B", "asleep, same CPU, 128 B", "2 to 2, 64 KiB"] {
        let status = Command::new(env!("CARGO_BIN_EXE_fanbus-bench-bus"))
            .args(["--rounds", "1", "--millis", "20", "--only", only])
            .args(["--contenders", "fanbus,iceoryx2,unix socket,pipe"])
            .arg("--json")
            .arg(&json)
            .arg("--markdown")
            .arg(&markdown)
            .status()
            .expect("it starts");
        assert!(status.success(), "{only}: {status}");
        let markdown = std::fs::read_to_string(&markdown).expect("it was written");
        assert!(markdown.contains(&format!("{only} | ")), "{markdown}");
        assert!(markdown.contains("| Fanbus | "), "{markdown}");
        let text = std::fs::read_to_string(&json).expect("it was written");
        let all: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        let runs = all["runs"].as_array().expect("a list");
        assert_eq!(runs.len(), 4);
        for run in runs {
            let round = &run["rounds"][0];
            assert!(round["received"].as_u64() > Some(0), "{run}");
            assert_eq!(round["received"], round["due"], "{run}");
            assert_eq!(round["missing"], 0, "{run}");
        }
    }
}

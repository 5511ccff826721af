//! `ottla api-versions` and `ottla completions`.

use serde_json::{Value, json};

use crate::binary::{Server, fail, ottla, succeed};

#[test]
fn what_a_broker_serves_and_what_not() {
    let server = Server::start(&[]);
    let answer = server.json("api-versions");
    assert_eq!(answer["broker"], json!(server.address));
    let api = |name: &str| {
        let apis = answer["apis"].as_array().unwrap();
        apis.iter().find(|api| api["name"] == name).unwrap_or_else(|| panic!("{name} is not there")).clone()
    };
    let fetch = api("Fetch");
    assert_eq!(fetch["key"], 1);
    assert_eq!(fetch["broker"], fetch["ottla"]);
    assert_eq!(fetch["used"], fetch["broker"]["max"]);
    let vote = api("Vote");
    assert_eq!((&vote["broker"], &vote["used"]), (&Value::Null, &Value::Null));
    assert_eq!(vote["ottla"], json!({"min": 0, "max": 2}));

    let table = server.run("api-versions");
    assert!(table.starts_with(&format!("Broker  {}\n\nKEY  API ", server.address)), "{table}");
    assert!(table.lines().any(|line| line.contains(" Fetch ") && line.ends_with("same")), "{table}");
    let differences = server.run("api-versions --differences");
    assert!(!differences.contains(" Fetch ") && differences.contains("not served"), "{differences}");
    assert_eq!(server.json("api-versions --broker 1")["apis"], answer["apis"]);
    let refused = fail(&mut server.tool("api-versions --broker 99"), 1);
    assert!(refused.contains("no broker 99; its brokers are 1"), "{refused}");
}

#[test]
fn completions_of_every_shell_know_every_command() {
    for (shell, comment) in [("bash", "_ottla()"), ("zsh", "#compdef ottla"), ("fish", "complete -c ottla")] {
        let script = succeed(ottla().args(["completions", shell]));
        assert!(script.contains(comment), "{shell}");
        for word in ["reset-offsets", "api-versions", "--bootstrap-server", "completions"] {
            assert!(script.contains(word.trim_start_matches("--")), "{shell}: {word}");
        }
    }
    for shell in ["powershell", "elvish"] {
        assert!(succeed(ottla().args(["completions", shell])).contains("reset-offsets"), "{shell}");
    }
    assert!(fail(ottla().args(["completions", "tcsh"]), 2).contains("bash"));
}

/// Where bash is installed it must read its script; elsewhere there is nobody to ask.
#[test]
fn bash_reads_its_script() {
    let script = succeed(ottla().args(["completions", "bash"]));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ottla.bash");
    std::fs::write(&path, script).unwrap();
    let words =
        "source \"$1\" && COMP_WORDS=(ottla gr) COMP_CWORD=1 && _ottla ottla gr ottla && echo \"${COMPREPLY[@]}\"";
    let asked = std::process::Command::new("bash").args(["--norc", "-c", words, "bash"]).arg(&path).output();
    match asked {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "group\n");
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}

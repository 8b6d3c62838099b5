//! The modules of deploy/terraform say what the code says: they are read here, and held against it. That they do what they
//! say is for tests/terraform/run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use paylog::config::Cli;
use paylog::journal::kafka::{DEFAULT_GROUP, DEFAULT_PARTITIONS, DEFAULT_TOPIC_PREFIX};
use serde_json::Value;

const MODULES: [&str; 3] = ["kafka", "azure", "topics"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/terraform")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(directory().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every .tf of a module, one after the other.
fn module(name: &str) -> String {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "tf"));
    files.sort();
    assert!(!files.is_empty(), "there is no module {name}");
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The lines of the block that begins with `head`. `tofu fmt`, which CI holds the modules to, puts its end on a line alone.
fn block<'t>(text: &'t str, head: &str) -> &'t str {
    let begin = text.find(&format!("{head} {{\n")).unwrap_or_else(|| panic!("there is no {head}"));
    let end = text[begin..].find("\n}\n").unwrap_or_else(|| panic!("{head} does not end"));
    &text[begin..begin + end]
}

/// The heads of all blocks that may not be destroyed.
fn kept(text: &str) -> BTreeSet<String> {
    let heads = text.lines().filter_map(|line| line.strip_prefix("resource ")?.strip_suffix(" {"));
    heads
        .filter(|head| block(text, &format!("resource {head}")).contains("    prevent_destroy = true"))
        .map(|head| head.replace("\" \"", ".").replace('"', ""))
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn without_our_environment(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PAYLOG_")) {
        command.env_remove(name);
    }
    command
}

#[test]
fn the_file_of_the_topics_is_what_the_code_makes() {
    let mut paylog = Command::new(env!("CARGO_BIN_EXE_paylog"));
    let output = without_our_environment(paylog.args(["topics", "settings"])).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said == read("topics.json"),
        "deploy/terraform/topics.json is not what the code makes: paylog topics settings >deploy/terraform/topics.json\n{said}"
    );
}

#[test]
fn the_topics_of_one_replica_differ_in_what_the_module_changes_and_in_nothing_else() {
    let mut paylog = Command::new(env!("CARGO_BIN_EXE_paylog"));
    let output =
        without_our_environment(paylog.args(["topics", "settings", "--allow-single-replica"])).output().unwrap();
    let single: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut planned: Vec<Value> = serde_json::from_str(&read("topics.json")).unwrap();
    for topic in &mut planned {
        topic["replication_factor"] = 1.into();
        topic["config"]["min.insync.replicas"] = "1".into();
    }
    assert_eq!(single, planned);
    assert!(module("kafka").contains(r#"var.replication_factor < 3 ? { "min.insync.replicas" = "1" } : {}"#));
}

#[test]
fn the_defaults_of_the_modules_are_those_of_the_code() {
    for name in ["kafka", "topics"] {
        let text = module(name);
        let default = |variable: &str| {
            let block = block(&text, &format!("variable \"{variable}\""));
            let line = block.lines().find_map(|line| line.trim().strip_prefix("default "));
            line.unwrap_or_else(|| panic!("{name}: {variable} has no default"))
                .trim_start_matches([' ', '='])
                .to_owned()
        };
        assert_eq!(default("partitions"), DEFAULT_PARTITIONS.to_string());
        assert_eq!(default("topic_prefix"), format!("\"{DEFAULT_TOPIC_PREFIX}\""));
        assert_eq!(default("group"), format!("\"{DEFAULT_GROUP}\""));
        assert_eq!(default("replication_factor"), "3");
    }
}

#[test]
fn what_holds_payments_is_destroyed_by_no_plan() {
    assert_eq!(kept(&module("topics")), set(&["terraform_data.event_store"]));
    let topics = set(&["kafka_topic.kept", "kafka_topic.passing", "terraform_data.frozen"]);
    assert_eq!(kept(&module("kafka")), topics);
    let azure = [
        "azurerm_eventhub.requests",
        "azurerm_eventhub_namespace.paylog",
        "azurerm_servicebus_namespace.paylog",
        "azurerm_servicebus_queue.requests",
        "terraform_data.frozen",
    ];
    assert_eq!(kept(&module("azure")), set(&azure));
    for name in MODULES {
        assert!(!module(name).contains("destroy\n"), "{name}: a provisioner at the end could delete a topic");
    }
    let planned: Vec<Value> = serde_json::from_str(&read("topics.json")).unwrap();
    let forever = planned.iter().filter(|topic| topic["kept_for_ever"] == true).map(|topic| topic["name"].to_string());
    assert_eq!(forever.collect::<Vec<_>>(), ["\"payments\"", "\"payments.deliveries\"", "\"payments.control\""]);
}

#[test]
fn nobody_writes_the_event_store_but_who_must() {
    let roles: Vec<Value> = serde_json::from_str(&read("roles.json")).unwrap();
    let planned: Vec<Value> = serde_json::from_str(&read("topics.json")).unwrap();
    let topics: BTreeSet<&str> = planned
        .iter()
        .map(|topic| topic["name"].as_str().unwrap().strip_prefix(DEFAULT_TOPIC_PREFIX).unwrap())
        .collect();
    let may = |role: &Value, suffix: &str, operation: &str| {
        role["topics"][suffix].as_array().is_some_and(|operations| operations.iter().any(|other| other == operation))
    };
    for role in &roles {
        for suffix in role["topics"].as_object().unwrap().keys() {
            assert!(topics.contains(suffix.as_str()), "{}: there is no topic {suffix}", role["role"]);
        }
        for operation in ["All", "Delete", "Alter", "AlterConfigs"] {
            assert!(topics.iter().all(|suffix| !may(role, suffix, operation)), "{} may {operation}", role["role"]);
        }
    }
    let writers = |suffix: &str| -> BTreeSet<String> {
        let writers = roles.iter().filter(|role| may(role, suffix, "Write"));
        writers.map(|role| role["role"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(writers(""), set(&["process", "serve"]));
    assert_eq!(writers(".requests"), set(&["requests"]));
    assert_eq!(writers(".dead-letter"), set(&["process"]));
    assert_eq!(writers(".deliveries"), set(&["notify"]));
}

#[test]
fn what_the_modules_put_out_is_configuration_that_paylog_knows() {
    fn known(command: &clap::Command, into: &mut BTreeSet<String>) {
        let names = command.get_arguments().filter_map(|argument| argument.get_env());
        into.extend(names.map(|name| name.to_string_lossy().into_owned()));
        command.get_subcommands().for_each(|command| known(command, into));
    }
    let mut names = BTreeSet::new();
    known(&Cli::command(), &mut names);
    // Secrets come by the environment alone.
    for args in ["hub.rs", "service_bus/args.rs"] {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/intake").join(args)).unwrap();
        names.extend(text.split('"').filter(|quoted| quoted.starts_with("PAYLOG_")).map(str::to_owned));
    }
    for name in MODULES {
        let text = module(name);
        let put_out = text.split('"').filter(|quoted| quoted.starts_with("PAYLOG_"));
        let put_out: BTreeSet<&str> = put_out.filter_map(|quoted| Some(quoted.split_once('=')?.0)).collect();
        assert!(!put_out.is_empty(), "{name} puts out no configuration");
        for variable in put_out {
            assert!(names.contains(variable), "{name} puts out {variable}, which paylog does not know");
        }
    }
}

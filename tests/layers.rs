//! Which module may name which (DESIGN.md 13): what the compiler cannot keep, this keeps.

use std::path::{Path, PathBuf};

/// A module, and the names of ours that it may not use.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "payment",
        &[
            "api",
            "bench",
            "checker",
            "client",
            "clock",
            "config",
            "contract",
            "control",
            "gateway",
            "http",
            "intake",
            "journal",
            "lane",
            "processor",
            "projection",
            "recording",
            "schema",
            "service",
            "store",
            "stream",
            "telemetry",
        ],
    ),
    (
        "projection",
        &[
            "access",
            "api",
            "control",
            "deliveries",
            "gateway",
            "http",
            "intake",
            "lane",
            "notifier",
            "processor",
            "service",
            "stream",
        ],
    ),
    // What knows who is to be told can tell nobody.
    (
        "deliveries",
        &[
            "access",
            "api",
            "client",
            "config",
            "gateway",
            "http",
            "intake",
            "lane",
            "notifier",
            "processor",
            "service",
            "stream",
        ],
    ),
    ("notifier", &["access", "api", "gateway", "http", "intake", "lane", "processor", "replay", "service", "stream"]),
    // What copies the log can append to none, and make no effect.
    (
        "archive",
        &[
            "api",
            "client",
            "config",
            "control",
            "gateway",
            "http",
            "import",
            "intake",
            "journal::embedded",
            "journal::kafka",
            "lane",
            "processor",
            "recording",
            "service",
            "store",
            "stream",
        ],
    ),
    // What copies rows folds nothing, appends to nothing, and makes no effect.
    (
        "checkpoint",
        &[
            "api",
            "client",
            "config",
            "control",
            "gateway",
            "http",
            "import",
            "intake",
            "journal::embedded",
            "journal::kafka",
            "lane",
            "notifier",
            "processor",
            "recording",
            "service",
            "stream",
        ],
    ),
    // A protocol: it knows nothing of ours.
    (
        "amqp",
        &[
            "access",
            "api",
            "client",
            "config",
            "contract",
            "control",
            "deliveries",
            "gateway",
            "http",
            "intake",
            "journal",
            "lane",
            "notifier",
            "payment",
            "processor",
            "projection",
            "schema",
            "service",
            "store",
            "stream",
            "telemetry",
        ],
    ),
    ("import", &["api", "client", "gateway", "http", "intake", "lane", "processor", "recording", "store", "stream"]),
    ("store", &["api", "control", "gateway", "journal", "lane", "payment", "processor", "projection", "stream"]),
    (
        "journal",
        &["api", "control", "gateway", "intake", "lane", "payment", "processor", "projection", "schema", "stream"],
    ),
    (
        "schema",
        &["api", "control", "gateway", "intake", "journal", "lane", "processor", "projection", "store", "stream"],
    ),
    (
        "control",
        &[
            "access",
            "api",
            "deliveries",
            "gateway",
            "http",
            "intake",
            "lane",
            "processor",
            "schema",
            "service",
            "store",
            "stream",
        ],
    ),
    (
        "access",
        &["api", "bench", "client", "gateway", "intake", "lane", "processor", "schema", "service", "store", "stream"],
    ),
    // A protocol, and nothing of ours but the core and the key that it derives its own from.
    (
        "webpush",
        &[
            "access",
            "api",
            "client",
            "config",
            "contract",
            "deliveries",
            "gateway",
            "http",
            "intake",
            "journal",
            "lane",
            "notifier",
            "processor",
            "projection",
            "schema",
            "service",
            "store",
            "stream",
        ],
    ),
    // How things are described, and nothing of what they are.
    (
        "openapi",
        &[
            "access",
            "api",
            "contract",
            "control",
            "deliveries",
            "intake",
            "journal",
            "lane",
            "notifier",
            "payment",
            "processor",
            "projection",
            "schema",
            "service",
            "store",
            "stream",
        ],
    ),
    ("lane", &["api", "gateway", "http", "intake", "processor", "stream"]),
    ("intake", &["api", "contract", "control", "gateway", "http", "lane", "processor", "service", "stream"]),
    ("api", &["gateway", "intake", "lane", "notifier", "processor", "service", "store", "stream"]),
    ("stream", &["api", "gateway", "lane", "processor", "service"]),
    ("processor", &["api", "deliveries", "journal", "notifier", "projection", "service", "store", "stream"]),
    (
        "checker",
        &[
            "api",
            "bench",
            "client",
            "config",
            "contract",
            "gateway",
            "http",
            "journal",
            "lane",
            "processor",
            "projection",
            "service",
            "store",
            "stream",
            "telemetry",
        ],
    ),
    ("gateway", &["api", "journal", "lane", "processor", "projection", "schema", "service", "store", "stream"]),
    // A judge of the client shares nothing with it, but for the list of Stripe's test tokens.
    (
        "gateway_simulator",
        &[
            "api",
            "bench",
            "checker",
            "client",
            "config",
            "contract",
            "gateway::stripe",
            "journal",
            "lane",
            "processor",
            "projection",
            "schema",
            "service",
            "stream",
            "telemetry",
        ],
    ),
    (
        "replay",
        &[
            "api",
            "bench",
            "client",
            "control",
            "gateway",
            "gateway_simulator",
            "http",
            "intake",
            "lane",
            "notifier",
            "processor",
            "recording",
            "service",
            "stream",
        ],
    ),
    (
        "reconcile",
        &["api", "gateway", "journal", "lane", "processor", "projection", "schema", "service", "store", "stream"],
    ),
];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_str().unwrap().ends_with("tests"))
}

#[test]
fn imports_keep_the_layers_apart() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (module, forbidden) in FORBIDDEN {
        let mut files = Vec::new();
        sources(&src.join(module), &mut files);
        for file in files.iter().filter(|file| !is_test(file)) {
            let text = std::fs::read_to_string(file).unwrap();
            for name in *forbidden {
                if text.contains(&format!("crate::{name}::")) || text.contains(&format!("crate::{{{name}")) {
                    wrong.push(format!("{} names {name}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a log can be written with, and who has it (promise 7).
const WRITES: &[&str] = &[
    ".append(",
    "Appending",
    "EmbeddedJournal",
    "KafkaJournal",
    "Lanes",
    "NewRecord",
    "Transaction",
    "dyn Journal",
    "journal::Journal",
    "journal::embedded",
    "journal::kafka",
    ".lanes(",
    ".requests(",
];

/// By types and not by a flag: whoever folds, replays or copies rows is given a `Reader`, and has no name for more.
#[test]
fn projection_and_replay_have_no_name_for_what_writes_to_a_log() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for module in ["projection", "replay", "checkpoint", "deliveries"] {
        let mut files = Vec::new();
        sources(&src.join(module), &mut files);
        assert!(!files.is_empty());
        for file in files.iter().filter(|file| !is_test(file)) {
            // An error is none of them.
            let text = std::fs::read_to_string(file).unwrap().replace("journal::JournalError", "");
            let named = WRITES.iter().filter(|word| text.contains(**word));
            wrong.extend(named.map(|word| format!("{} names {word}", file.display())));
            for import in text.split("use ").filter(|import| import.starts_with("crate::journal::")) {
                let names = import.split(';').next().unwrap_or_default();
                let writer = names.split(|c: char| !c.is_alphanumeric()).any(|name| name == "Journal");
                wrong.extend(writer.then(|| format!("{} imports Journal", file.display())));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The journal has one door for those who only read. These modules are not given any other, by whatever name.
#[test]
fn who_copies_the_log_can_name_nothing_that_appends() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/archive"), &mut files);
    assert!(files.len() > 5, "{files:?}");
    for file in files.iter().filter(|file| !is_test(file)) {
        let text = std::fs::read_to_string(file).unwrap();
        for name in ["NewRecord", "dyn Journal", "Journal}", "Journal,", "Lanes", "Appending", "Requests", "restore("] {
            assert!(!text.contains(name), "{} names {name}", file.display());
        }
    }
}

#[test]
fn each_library_of_a_protocol_or_a_format_is_named_by_one_module() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for (library, home) in [
        ("rdkafka::", "journal/kafka"),
        ("fjall::", "store"),
        ("serde_avro_fast::", "schema"),
        ("fe2o3_amqp::", "amqp"),
        ("schema_registry_converter::", "schema"),
    ] {
        let strangers: Vec<_> = files
            .iter()
            .filter(|file| !file.strip_prefix(&src).unwrap().starts_with(home))
            .filter(|file| std::fs::read_to_string(file).unwrap().contains(library))
            .collect();
        assert!(strangers.is_empty(), "{library} {strangers:#?}");
    }
}

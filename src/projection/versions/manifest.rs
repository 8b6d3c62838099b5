//! Which versions of a projection there are on disk, and which of them is served: a small file beside their directories,
//! written whole, so that whatever kills the process, the next start finds what there was.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::fold::{Projection, versioned_name};
use super::stores::discard;
use crate::store::{StoreError, write_whole};

/// How far a version has come on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It is folded from the start of the log.
    Building,
    /// It has been folded to the end of the log, and goes on with it; it has not been compared.
    CaughtUp,
    /// At the same offsets it had the same rows as the one that is served.
    Verified,
    /// It had other rows. Where it is the one in use, for want of another that this code can read: other than those of the code
    /// before it; nobody is sent to it.
    Different,
    /// The one in use, for want of another that this code can read, before it is held against the rows of the code before it;
    /// nobody is sent to it.
    Uncompared,
    /// What everybody reads.
    Serving,
    /// It was served before, and is folded on, to be gone back to.
    Retired,
    /// Its fold has ended with an error.
    Failed,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Building => "building",
            Self::CaughtUp => "caught-up",
            Self::Verified => "verified",
            Self::Different => "different",
            Self::Uncompared => "uncompared",
            Self::Serving => "serving",
            Self::Retired => "retired",
            Self::Failed => "failed",
        })
    }
}

/// One store of a projection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// From 1.
    pub number: u32,
    pub phase: Phase,
    /// When it came to this phase, by the machine's clock.
    pub since: String,
    /// What there is to say of it: why it failed, who had it promoted and why.
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub serving: Version,
    pub other: Option<Version>,
    /// The greatest number that was ever given.
    pub last: u32,
}

impl Version {
    pub fn new(number: u32, phase: Phase, since: String) -> Self {
        Self { number, phase, since, note: None }
    }
}

impl Manifest {
    /// Of the projection as this program writes it; the first version is served where there is no manifest.
    pub fn read<P: Projection>(stores: &Path) -> io::Result<Self> {
        Self::read_of(stores, &versioned_name::<P>())
    }

    /// Of one that has this name.
    pub fn read_of(stores: &Path, versioned_name: &str) -> io::Result<Self> {
        let path = stores.join(format!("{versioned_name}.json"));
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                let text = format!(
                    "{} cannot be read ({e}): delete it, and the directories of {versioned_name} beside it; they are folded anew from the log",
                    path.display(),
                );
                io::Error::new(io::ErrorKind::InvalidData, text)
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let serving = Version::new(1, Phase::Serving, String::new());
                Ok(Self { serving, other: None, last: greatest(stores, versioned_name)? })
            }
            Err(e) => Err(e),
        }
    }

    /// All of it or nothing, through a power cut too.
    pub fn write<P: Projection>(&self, stores: &Path) -> io::Result<()> {
        write_whole(&path::<P>(stores), &serde_json::to_vec_pretty(self)?)
    }

    /// Deletes the directories of versions that are not in it: those whose deletion was cut short.
    pub fn sweep<P: Projection>(&self, stores: &Path) -> Result<(), StoreError> {
        let kept = [Some(self.serving.number), self.other.as_ref().map(|other| other.number)];
        for number in (1..=self.last).filter(|number| !kept.contains(&Some(*number))) {
            discard(&stores.join(name::<P>(number)))?;
        }
        Ok(())
    }
}

/// What a version is called, and its directory: `payments@4`, `payments@4.2`.
#[must_use]
pub fn name<P: Projection>(number: u32) -> String {
    name_of(&versioned_name::<P>(), number)
}

/// Of a projection that has this name.
pub fn name_of(versioned_name: &str, number: u32) -> String {
    match number {
        1 => versioned_name.to_owned(),
        _ => format!("{versioned_name}.{number}"),
    }
}

/// The greatest number that a directory has: were the list lost, no name would be given twice for it.
fn greatest(stores: &Path, versioned_name: &str) -> io::Result<u32> {
    let entries = match std::fs::read_dir(stores) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(1),
        entries => entries?,
    };
    let (mut greatest, prefix) = (1, format!("{versioned_name}."));
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u32>().ok());
        greatest = greatest.max(number.unwrap_or(1));
    }
    Ok(greatest)
}

fn path<P: Projection>(stores: &Path) -> PathBuf {
    stores.join(format!("{}.json", versioned_name::<P>()))
}

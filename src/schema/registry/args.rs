//! Where the registry is, and how it is asked, from flags and environment. Who asks comes by the environment alone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use reqwest::{Certificate, ClientBuilder, Url};

const USER: &str = "PAYLOG_SCHEMA_REGISTRY_USER";
const PASSWORD: &str = "PAYLOG_SCHEMA_REGISTRY_PASSWORD";
/// For a connection to be there, TLS and all.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Idle connections that are kept to one URL, and for how long.
const IDLE_CONNECTIONS_MAX: usize = 1;
const IDLE_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, Args)]
pub struct RegistryArgs {
    /// A schema registry with Confluent's API: `http://host:8081`, or Apicurio's `http://host:8080/apis/ccompat/v7`; several URLs
    /// of one registry with commas between. Events are then written in Confluent's frame, by ids that `paylog schemas register`
    /// has made; without it, in Avro's single-object encoding. Its user and password come by the environment:
    /// PAYLOG_SCHEMA_REGISTRY_USER, PAYLOG_SCHEMA_REGISTRY_PASSWORD.
    #[arg(long = "schema-registry", env = "PAYLOG_SCHEMA_REGISTRY", value_name = "URL", hide_env_values = true)]
    pub schema_registry: Option<String>,
    /// A file with certificates (PEM) of authorities that the registry's own may be of, beside those of this machine.
    #[arg(long = "schema-registry-ca", env = "PAYLOG_SCHEMA_REGISTRY_CA", value_name = "FILE")]
    pub schema_registry_ca: Option<PathBuf>,
}

/// Who asks.
#[derive(Clone)]
pub(super) struct Credentials {
    pub user: String,
    pub password: Option<String>,
}

impl Credentials {
    /// An empty variable is none.
    pub fn of_environment() -> anyhow::Result<Option<Self>> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (set(USER), set(PASSWORD)) {
            (Some(user), password) => Ok(Some(Self { user, password })),
            (None, None) => Ok(None),
            (None, Some(_)) => anyhow::bail!("{PASSWORD} is set and {USER} is not: set both, or neither"),
        }
    }
}

impl RegistryArgs {
    /// The registry's URLs, without a slash at the end; none without a registry.
    pub(super) fn urls(&self) -> anyhow::Result<Vec<Url>> {
        let listed = self.schema_registry.as_deref().unwrap_or_default().split(',').map(str::trim);
        listed.filter(|url| !url.is_empty()).map(checked).collect()
    }

    /// What an HTTP client that asks `urls` is made by.
    pub(super) fn client(&self, urls: &[Url]) -> anyhow::Result<ClientBuilder> {
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("paylog/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(IDLE_MAX);
        if urls.iter().any(|url| url.scheme() == "http") {
            // A proxy on the way of a request in the clear would read its password.
            client = client.no_proxy();
        }
        if let Some(path) = &self.schema_registry_ca {
            let shown = path.display();
            let pem = std::fs::read(path).with_context(|| format!("cannot read --schema-registry-ca {shown}"))?;
            let authorities = Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("--schema-registry-ca {shown} does not hold certificates in PEM"))?;
            ensure!(!authorities.is_empty(), "--schema-registry-ca {shown} holds no certificate");
            client = client.tls_certs_merge(authorities);
        }
        Ok(client)
    }
}

fn checked(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).context("--schema-registry is no URL")?;
    ensure!(
        matches!(url.scheme(), "http" | "https") && url.has_host(),
        "--schema-registry must begin with http:// or https://"
    );
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    ensure!(
        plain && url.fragment().is_none(),
        "--schema-registry must be an address alone: no user, query or fragment; a user is given by {USER} and {PASSWORD}"
    );
    Ok(url)
}

/// Can others on the way read what is sent there?
pub(super) fn is_open(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "http" && !here
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> RegistryArgs {
        RegistryArgs { schema_registry: Some(text.to_owned()), schema_registry_ca: None }
    }

    #[test]
    fn several_urls_are_one_registry_and_an_empty_variable_is_none() {
        let urls = args("http://a:8081/, https://b/apis/ccompat/v7").urls().unwrap();
        let shown: Vec<&str> = urls.iter().map(Url::as_str).collect();
        assert_eq!(shown, ["http://a:8081/", "https://b/apis/ccompat/v7"]);
        assert_eq!(urls.iter().map(is_open).collect::<Vec<_>>(), [true, false]);
        assert!(!args("http://127.0.0.1:1,http://[::1]:1,http://localhost").urls().unwrap().iter().any(is_open));
        assert!(args("").urls().unwrap().is_empty());
        assert!(RegistryArgs::default().urls().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_password_in_it_is_not_repeated() {
        for wrong in ["registry:8081", "ftp://a", "http://", "http://u:hunter2@a", "http://a?x=1", "http://a#x"] {
            let error = format!("{:#}", args(wrong).urls().unwrap_err());
            assert!(error.contains("--schema-registry") && !error.contains("hunter2"), "{wrong}: {error}");
        }
    }

    /// Somebody may have put a password there, which is refused, but is in the environment all the same.
    #[test]
    fn help_does_not_show_what_the_environment_has() {
        let command = RegistryArgs::augment_args(clap::Command::new("paylog"));
        let url = command.get_arguments().find(|arg| arg.get_id() == "schema_registry").unwrap();
        assert!(url.is_hide_env_values_set());
    }

    #[test]
    fn a_file_that_holds_no_certificate_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of =
            |path: &std::path::Path| RegistryArgs { schema_registry_ca: Some(path.to_owned()), ..args("https://a") };
        let error = |path| format!("{:#}", of(path).client(&[]).unwrap_err());
        assert!(error(file.path()).contains("holds no certificate"), "{}", error(file.path()));
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n").unwrap();
        assert!(error(file.path()).contains("--schema-registry-ca"), "{}", error(file.path()));
        assert!(error(std::path::Path::new("/nowhere")).contains("cannot read"));
    }
}

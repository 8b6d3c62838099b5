//! The flag of events that come in from Azure Event Grid.

use clap::Args;

#[derive(Clone, Debug, Args)]
pub struct EventGridArgs {
    /// Who may deliver CloudEvents to /v1/event_grid, as it calls itself when it asks (WebHook-Request-Origin). May be repeated
    /// (in one word, and in the environment: `,` between). It is no proof of anything: a merchant's key lets in.
    #[arg(
        long,
        env = "PAYLOG_EVENT_GRID_ORIGINS",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "eventgrid.azure.net",
        value_parser = name
    )]
    pub event_grid_origins: Vec<String>,
}

/// The longest that a name in the DNS may be.
const NAME_MAX: usize = 253;

fn name(text: &str) -> Result<String, String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_good) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("a name is one of the DNS, such as eventgrid.azure.net".to_owned())
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn who_may_deliver_is_named() {
        assert_eq!(name("EventGrid.Azure.net").as_deref(), Ok("eventgrid.azure.net"));
        for bad in ["", "*", "https://eventgrid.azure.net", "a b", &"a".repeat(254)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}

//! Why no messages are taken, as it was said last.

use std::mem::{Discriminant, discriminant};

use crate::amqp::AmqpError;

#[derive(Debug, Default)]
pub(super) struct Said(Option<Discriminant<AmqpError>>);

impl Said {
    /// Is it of another kind than the last? Not its text: Azure Service Bus has a time and a number of its own in each.
    pub fn is_new(&mut self, error: &AmqpError) -> bool {
        self.0.replace(discriminant(error)) != Some(discriminant(error))
    }
}

#[cfg(test)]
mod tests {
    use super::Said;
    use crate::amqp::AmqpError;

    #[test]
    fn the_same_kind_of_error_in_other_words_is_not_new() {
        let mut said = Said::default();
        let ended = |id: u32| AmqpError::Ended(format!("TrackingId:{id}"));
        assert!(said.is_new(&ended(1)));
        assert!(!said.is_new(&ended(2)));
        assert!(said.is_new(&AmqpError::LoginRefused));
        assert!(said.is_new(&ended(3)));
    }
}

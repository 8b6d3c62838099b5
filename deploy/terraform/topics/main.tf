# The topics, made and judged by paylog itself: no provider is needed. Nothing here deletes a topic, nor alters one.
locals {
  environment = {
    PAYLOG_BOOTSTRAP_SERVERS    = join(",", var.bootstrap_servers)
    PAYLOG_TOPIC_PREFIX         = var.topic_prefix
    PAYLOG_PARTITIONS           = tostring(var.partitions)
    PAYLOG_ALLOW_SINGLE_REPLICA = tostring(var.replication_factor < 3)
  }

  # With its secrets: for the commands alone, in no trigger, and so in no state.
  settings = join(";", [for key, value in var.kafka_settings : "${key}=${value}"])
  login    = local.settings == "" ? {} : { PAYLOG_KAFKA = local.settings }
}

# What can never change once there is a payment. It stands in the state as it was at the first apply; a plan with another
# value, or one that would destroy it, is refused, and comes to nothing else.
resource "terraform_data" "event_store" {
  input = {
    topic_prefix = var.topic_prefix
    partitions   = var.partitions
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [input]

    postcondition {
      condition     = self.output.partitions == var.partitions
      error_message = "The log was made with ${self.output.partitions} partitions and not ${var.partitions}. The number can never change: a payment's partition follows from it."
    }

    postcondition {
      condition     = self.output.topic_prefix == var.topic_prefix
      error_message = "The log is ${self.output.topic_prefix} and not ${var.topic_prefix}. Another name is another log, without these payments: give it a state of its own."
    }
  }
}

# Apart from the event store, because what fails here is made again at the next apply.
resource "terraform_data" "ensured" {
  triggers_replace = [terraform_data.event_store.id, local.environment, var.replication_factor]

  provisioner "local-exec" {
    command     = "\"$PAYLOG\" topics ensure --replication ${var.replication_factor}"
    environment = merge(local.environment, local.login, { PAYLOG = var.paylog })
  }
}

resource "terraform_data" "checked" {
  triggers_replace = [terraform_data.ensured.id, var.check]

  provisioner "local-exec" {
    command     = "\"$PAYLOG\" topics check"
    environment = merge(local.environment, local.login, { PAYLOG = var.paylog })
  }
}

# What `paylog topics settings` prints is the only place where the settings of the topics are written.
locals {
  planned = { for topic in jsondecode(file("${path.module}/../topics.json")) : trimprefix(topic.name, "payments") => topic }

  topics = {
    for suffix, topic in local.planned : suffix => {
      name       = "${var.topic_prefix}${suffix}"
      partitions = topic.partitions == 1 ? 1 : var.partitions
      kept       = topic.kept_for_ever
      config     = merge(topic.config, var.replication_factor < 3 ? { "min.insync.replicas" = "1" } : {})
    }
  }
}

# What can never change once there is a payment. It stands in the state as it was at the first apply; a plan with another
# value is refused here, in words, and comes to nothing else.
resource "terraform_data" "frozen" {
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

# The event store, and the two logs that are kept as it is. Nothing here may ever delete one.
resource "kafka_topic" "kept" {
  for_each = toset([for suffix, topic in local.planned : suffix if topic.kept_for_ever])

  name               = local.topics[each.key].name
  partitions         = local.topics[each.key].partitions
  replication_factor = var.replication_factor
  config             = local.topics[each.key].config

  depends_on = [terraform_data.frozen]

  lifecycle {
    prevent_destroy = true
  }
}

# What others ask for, and what was refused of it: unread, it stands nowhere else.
resource "kafka_topic" "passing" {
  for_each = toset([for suffix, topic in local.planned : suffix if !topic.kept_for_ever])

  name               = local.topics[each.key].name
  partitions         = local.topics[each.key].partitions
  replication_factor = var.replication_factor
  config             = local.topics[each.key].config

  depends_on = [terraform_data.frozen]

  lifecycle {
    prevent_destroy = true
  }
}

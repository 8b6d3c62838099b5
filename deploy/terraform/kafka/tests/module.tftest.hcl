# `tofu test`, with a provider that makes nothing.
mock_provider "kafka" {}

variables {
  bootstrap_servers = ["kafka-1:9093", "kafka-2:9093", "kafka-3:9093"]
}

run "what_is_made" {
  variables {
    users = {
      serve    = "paylog-serve"
      process  = "paylog-process"
      notify   = "paylog-notify"
      requests = "shop"
      operator = "operator"
    }
    passwords = { serve = "a", process = "b", notify = "c", requests = "d" }
  }

  assert {
    condition     = toset([for topic in kafka_topic.kept : topic.name]) == toset(["payments", "payments.deliveries", "payments.control"])
    error_message = "what is kept is the event store, the log of deliveries and the control log"
  }

  assert {
    condition     = kafka_topic.kept[""].config["retention.ms"] == "-1" && kafka_topic.kept[""].config["min.insync.replicas"] == "2"
    error_message = "the event store is kept for ever, by two replicas at least"
  }

  assert {
    condition     = kafka_topic.kept[""].partitions == 12 && kafka_topic.kept[".control"].partitions == 1
    error_message = "the log has as many partitions as were asked for, and the control log one"
  }

  assert {
    condition     = [for acl in kafka_acl.role : acl.resource_name if acl.acl_principal == "User:shop" && acl.acl_operation == "Write"] == ["payments.requests"]
    error_message = "who asks for payments writes requests and nothing else"
  }

  assert {
    condition     = toset([for acl in kafka_acl.role : acl.acl_principal if acl.resource_name == "payments" && acl.acl_operation == "Write"]) == toset(["User:paylog-serve", "User:paylog-process"])
    error_message = "nobody writes to the event store but serve and process"
  }

  assert {
    condition     = !contains(keys(kafka_user_scram_credential.user), "operator")
    error_message = "a user without a password exists already, and is not made"
  }

  assert {
    condition     = output.environment == "PAYLOG_BOOTSTRAP_SERVERS=kafka-1:9093,kafka-2:9093,kafka-3:9093\nPAYLOG_TOPIC_PREFIX=payments\nPAYLOG_PARTITIONS=12\nPAYLOG_GROUP=paylog-processor\n"
    error_message = "the output is paylog's configuration"
  }
}

run "partitions_never_change" {
  command = plan

  variables {
    partitions = 24
  }

  expect_failures = [terraform_data.frozen]
}

run "nor_does_the_log" {
  command = plan

  variables {
    topic_prefix = "other"
  }

  expect_failures = [terraform_data.frozen]
}

run "no_role_but_the_five" {
  command = plan

  variables {
    users = { admin = "root" }
  }

  expect_failures = [var.users]
}

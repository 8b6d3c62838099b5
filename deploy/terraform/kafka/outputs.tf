output "environment" {
  description = "paylog's configuration, but for the secrets: a line KEY=VALUE each, as an env file has them."
  value = join("\n", concat(
    [
      "PAYLOG_BOOTSTRAP_SERVERS=${join(",", var.bootstrap_servers)}",
      "PAYLOG_TOPIC_PREFIX=${var.topic_prefix}",
      "PAYLOG_PARTITIONS=${var.partitions}",
      "PAYLOG_GROUP=${var.group}",
    ],
    var.replication_factor < 3 ? ["PAYLOG_ALLOW_SINGLE_REPLICA=true"] : [],
    [""],
  ))
}

output "kafka_settings" {
  description = "PAYLOG_KAFKA of each role whose user was made here: how it logs in."
  sensitive   = true
  value = {
    for role, credential in kafka_user_scram_credential.user : role =>
    "security.protocol=SASL_SSL;sasl.mechanism=SCRAM-SHA-512;sasl.username=${credential.username};sasl.password=${credential.password}"
  }
}

output "topics" {
  description = "The topics that were made, by what follows the prefix."
  value       = { for suffix, topic in local.topics : suffix => topic.name }
}

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

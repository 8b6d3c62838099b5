# paylog's topics by paylog itself, on a Kafka that is there already.
#
#   tofu init && tofu apply
#   tofu output -raw environment >paylog.env
variable "bootstrap_servers" {
  type    = list(string)
  default = ["kafka-1.example.net:9092", "kafka-2.example.net:9092", "kafka-3.example.net:9092"]
}

variable "paylog" {
  type    = string
  default = "paylog"
}

variable "topic_prefix" {
  type    = string
  default = "payments"
}

variable "partitions" {
  type    = number
  default = 12
}

variable "replication_factor" {
  type    = number
  default = 3
}

module "topics" {
  source = "../../topics"

  bootstrap_servers  = var.bootstrap_servers
  paylog             = var.paylog
  topic_prefix       = var.topic_prefix
  partitions         = var.partitions
  replication_factor = var.replication_factor
}

output "environment" {
  value = module.topics.environment
}

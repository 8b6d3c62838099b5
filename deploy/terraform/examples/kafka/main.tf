# paylog's topics, users and rights on a Kafka that is there already.
#
#   export TF_VAR_admin_password=... TF_VAR_passwords='{"serve":"...","process":"...","notify":"...","requests":"..."}'
#   tofu init && tofu apply
#   tofu output -raw environment >paylog.env
variable "bootstrap_servers" {
  type    = list(string)
  default = ["kafka-1.example.net:9093", "kafka-2.example.net:9093", "kafka-3.example.net:9093"]
}

variable "admin_password" {
  type      = string
  sensitive = true
}

variable "passwords" {
  type      = map(string)
  sensitive = true
}

variable "ca_cert" {
  description = "The CA that signed the brokers' certificates, as PEM or as the path of such a file."
  type        = string
  default     = ""
}

provider "kafka" {
  bootstrap_servers = var.bootstrap_servers
  tls_enabled       = true
  ca_cert           = var.ca_cert
  sasl_mechanism    = "scram-sha512"
  sasl_username     = "admin"
  sasl_password     = var.admin_password
}

module "paylog" {
  source = "../../kafka"

  bootstrap_servers  = var.bootstrap_servers
  partitions         = 12
  replication_factor = 3
  passwords          = var.passwords
  users = {
    serve    = "paylog-serve"
    process  = "paylog-process"
    notify   = "paylog-notify"
    requests = "shop"
  }
}

output "environment" {
  value = module.paylog.environment
}

output "kafka_settings" {
  value     = module.paylog.kafka_settings
  sensitive = true
}

terraform {
  required_providers {
    kafka = {
      source = "Mongey/kafka"
    }
  }
}

variable "paylog" {
  description = "The paylog command on the machine that applies this."
  type        = string
  default     = "paylog"
}

variable "bootstrap_servers" {
  description = "Kafka's bootstrap servers, host:port."
  type        = list(string)

  validation {
    condition     = length(var.bootstrap_servers) > 0
    error_message = "bootstrap_servers names one broker at least."
  }
}

variable "topic_prefix" {
  description = "The event topic's name; the others are <prefix>.requests, .deliveries, .dead-letter and .control. Chosen once."
  type        = string
  default     = "payments"
}

variable "partitions" {
  description = "Partitions of the log. Chosen once: a payment's partition follows from it."
  type        = number
  default     = 12

  validation {
    condition     = var.partitions >= 1 && var.partitions <= 1000 && floor(var.partitions) == var.partitions
    error_message = "partitions is a whole number from 1 to 1000."
  }
}

variable "replication_factor" {
  description = "Replicas of each topic. With 1 the log is lost with one disk, and paylog starts on it only with PAYLOG_ALLOW_SINGLE_REPLICA."
  type        = number
  default     = 3

  validation {
    condition     = var.replication_factor == 1 || (var.replication_factor >= 3 && floor(var.replication_factor) == var.replication_factor)
    error_message = "replication_factor is 3 or more, or 1 to try things out."
  }
}

variable "group" {
  description = "The processors' consumer group, for the output `environment`."
  type        = string
  default     = "paylog-processor"
}

variable "kafka_settings" {
  description = "librdkafka settings by name, such as sasl.username and sasl.password: how paylog logs in. Not kept in the state."
  type        = map(string)
  default     = {}
  sensitive   = true
}

variable "check" {
  description = "Any text: with another than at the last apply the topics are looked at again, and nothing is altered."
  type        = string
  default     = ""
}

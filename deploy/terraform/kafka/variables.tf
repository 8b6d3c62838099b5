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
  description = "Replicas of each topic. Fewer than 3 lose payments with a disk, and paylog starts on them only with PAYLOG_ALLOW_SINGLE_REPLICA."
  type        = number
  default     = 3

  validation {
    condition     = var.replication_factor >= 1 && floor(var.replication_factor) == var.replication_factor
    error_message = "replication_factor is a whole number from 1."
  }
}

variable "group" {
  description = "The processors' consumer group; the intake's and the notifier's begin with it."
  type        = string
  default     = "paylog-processor"
}

variable "users" {
  description = "The SCRAM user of each role: serve, process, notify, requests (who asks for payments over Kafka), operator (who makes and looks at topics). A role without a user gets no ACLs."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.users), ["serve", "process", "notify", "requests", "operator"])) == 0
    error_message = "the roles are serve, process, notify, requests and operator."
  }
}

variable "passwords" {
  description = "The password of each user that is to be made, by role. A role of `users` without one is a user who exists already."
  type        = map(string)
  default     = {}
  sensitive   = true
}

variable "bootstrap_servers" {
  description = "Kafka's bootstrap servers as paylog reaches them, for the output `environment`."
  type        = list(string)
}

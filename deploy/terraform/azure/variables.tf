variable "name" {
  description = "The beginning of every resource's name: lower-case letters, digits and hyphens, a letter first."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,30}[a-z0-9]$", var.name))
    error_message = "name is 4 to 32 lower-case letters, digits and hyphens, a letter first and no hyphen last."
  }
}

variable "resource_group_name" {
  description = "The resource group, which is there already."
  type        = string
}

variable "location" {
  description = "The Azure region, such as westeurope."
  type        = string
}

variable "event_hubs_sku" {
  description = "Standard or Premium: Basic has no Kafka endpoint."
  type        = string
  default     = "Standard"

  validation {
    condition     = contains(["Standard", "Premium"], var.event_hubs_sku)
    error_message = "event_hubs_sku is Standard or Premium: Basic has no Kafka endpoint."
  }
}

variable "event_hubs_capacity" {
  description = "Throughput units (Standard) or processing units (Premium)."
  type        = number
  default     = 1
}

variable "hub_partitions" {
  description = "Partitions of each hub. On Standard they can never change."
  type        = number
  default     = 12

  validation {
    condition     = var.hub_partitions >= 1 && var.hub_partitions <= 32 && floor(var.hub_partitions) == var.hub_partitions
    error_message = "hub_partitions is a whole number from 1 to 32."
  }
}

variable "retention_hours" {
  description = "For how long a hub keeps its records: 168 at most on Standard. For as long paylog may be away and miss none."
  type        = number
  default     = 168

  validation {
    condition     = var.retention_hours >= 1 && var.retention_hours <= 2160
    error_message = "retention_hours is from 1 to 2160 (168 on Standard)."
  }
}

variable "service_bus_sku" {
  description = "Standard or Premium: Basic has neither sessions nor duplicate detection."
  type        = string
  default     = "Standard"

  validation {
    condition     = contains(["Standard", "Premium"], var.service_bus_sku)
    error_message = "service_bus_sku is Standard or Premium: Basic has neither sessions nor duplicate detection."
  }
}

variable "group" {
  description = "paylog's consumer group; on the hub of requests it is <group>-hub."
  type        = string
  default     = "paylog-processor"
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}

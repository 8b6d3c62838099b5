# What paylog talks to in Azure. The event store is a Kafka with unlimited retention, and not here.
#
#   export ARM_SUBSCRIPTION_ID=...
#   tofu init && tofu apply -var resource_group_name=payments
#   tofu output -raw environment >paylog.env && tofu output -raw secrets >>paylog.env
variable "resource_group_name" {
  type = string
}

provider "azurerm" {
  features {}
}

module "paylog" {
  source = "../../azure"

  name                = "contoso-pay"
  resource_group_name = var.resource_group_name
  location            = "westeurope"
}

output "environment" {
  value = module.paylog.environment
}

output "secrets" {
  value     = module.paylog.secrets
  sensitive = true
}

output "endpoints" {
  value = module.paylog.endpoints
}

output "endpoint_credentials" {
  value     = module.paylog.endpoint_credentials
  sensitive = true
}

terraform {
  required_providers {
    azurerm = {
      source = "hashicorp/azurerm"
    }
  }
}

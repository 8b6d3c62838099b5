# Of an endpoint: what `paylog webhook create --kind KIND --to URL` takes, the credential by PAYLOG_ENDPOINT_CREDENTIAL.
locals {
  hubs = "${azurerm_eventhub_namespace.paylog.name}.servicebus.windows.net:9093"
  bus  = "${azurerm_servicebus_namespace.paylog.name}.servicebus.windows.net"
}

output "environment" {
  description = "paylog's configuration, but for the secrets: a line KEY=VALUE each, as an env file has them."
  value = join("\n", [
    "PAYLOG_REQUESTS_FROM=${local.hubs}/${azurerm_eventhub.requests.name}",
    "PAYLOG_REQUESTS_GROUP=${var.group}-hub",
    "PAYLOG_SERVICE_BUS=amqps://${local.bus}/${azurerm_servicebus_queue.requests.name}",
    "",
  ])
}

output "secrets" {
  description = "The environment's secrets, a line KEY=VALUE each."
  sensitive   = true
  value = join("\n", [
    "PAYLOG_REQUESTS_CONNECTION_STRING=${azurerm_eventhub_authorization_rule.intake.primary_connection_string}",
    "PAYLOG_SERVICE_BUS_CONNECTION_STRING=${azurerm_servicebus_queue_authorization_rule.intake.primary_connection_string}",
    "",
  ])
}

output "endpoints" {
  description = "An endpoint each of the notifier: its kind and where it is."
  value = {
    event_hubs  = "kafka://${local.hubs}/${azurerm_eventhub.events.name}"
    event_grid  = azurerm_eventgrid_topic.events.endpoint
    service_bus = "amqps://${local.bus}/${azurerm_servicebus_queue.events.name}"
  }
}

output "endpoint_credentials" {
  description = "The credential of each endpoint, by kind."
  sensitive   = true
  value = {
    event_hubs  = azurerm_eventhub_authorization_rule.notifier.primary_connection_string
    event_grid  = azurerm_eventgrid_topic.events.primary_access_key
    service_bus = azurerm_servicebus_queue_authorization_rule.notifier.primary_connection_string
  }
}

output "asker_connection_string" {
  description = "What a producer of requests logs in with at the hub of requests."
  sensitive   = true
  value       = azurerm_eventhub_authorization_rule.asker.primary_connection_string
}

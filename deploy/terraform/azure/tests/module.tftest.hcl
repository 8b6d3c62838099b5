# `tofu test`, with a provider that makes nothing.
mock_provider "azurerm" {
  mock_resource "azurerm_eventhub_namespace" {
    defaults = {
      id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/payments/providers/Microsoft.EventHub/namespaces/contoso-pay-hubs"
    }
  }

  mock_resource "azurerm_servicebus_namespace" {
    defaults = {
      id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/payments/providers/Microsoft.ServiceBus/namespaces/contoso-pay-bus"
    }
  }

  mock_resource "azurerm_servicebus_queue" {
    defaults = {
      id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/payments/providers/Microsoft.ServiceBus/namespaces/contoso-pay-bus/queues/q"
    }
  }
}

variables {
  name                = "contoso-pay"
  resource_group_name = "payments"
  location            = "westeurope"
}

run "what_is_made" {
  assert {
    condition     = azurerm_eventgrid_topic.events.input_schema == "CloudEventSchemaV1_0"
    error_message = "the topic takes CloudEvents"
  }

  assert {
    condition     = azurerm_servicebus_queue.events.requires_session && azurerm_servicebus_queue.events.requires_duplicate_detection
    error_message = "the queue that is told has sessions and drops duplicates"
  }

  assert {
    condition     = azurerm_servicebus_queue.requests.dead_lettering_on_message_expiration && !azurerm_servicebus_queue.requests.requires_session
    error_message = "a request that expires is a dead letter, and any instance may take it"
  }

  assert {
    condition     = !azurerm_eventhub_authorization_rule.intake.send && !azurerm_eventhub_authorization_rule.notifier.listen
    error_message = "each has the one right that it needs"
  }

  assert {
    condition     = output.endpoints.event_hubs == "kafka://contoso-pay-hubs.servicebus.windows.net:9093/payments.events"
    error_message = "the hub's address is one that paylog takes"
  }

  assert {
    condition     = startswith(output.environment, "PAYLOG_REQUESTS_FROM=contoso-pay-hubs.servicebus.windows.net:9093/payments.requests\n")
    error_message = "the output is paylog's configuration"
  }
}

run "partitions_never_change" {
  command = plan

  variables {
    hub_partitions = 24
  }

  expect_failures = [terraform_data.frozen]
}

run "basic_has_no_kafka_endpoint" {
  command = plan

  variables {
    event_hubs_sku = "Basic"
  }

  expect_failures = [var.event_hubs_sku]
}

# Two hubs: one takes requests for payments, the other is told of them. Neither is the event store: what a hub keeps is
# kept for days, and a payment for ever.
resource "azurerm_eventhub_namespace" "paylog" {
  name                = "${var.name}-hubs"
  resource_group_name = var.resource_group_name
  location            = var.location
  sku                 = var.event_hubs_sku
  capacity            = var.event_hubs_capacity
  minimum_tls_version = "1.2"
  tags                = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_eventhub" "requests" {
  name            = "payments.requests"
  namespace_id    = azurerm_eventhub_namespace.paylog.id
  partition_count = var.hub_partitions

  depends_on = [terraform_data.frozen]

  retention_description {
    cleanup_policy          = "Delete"
    retention_time_in_hours = var.retention_hours
  }

  # What stands on it and was not read yet is somebody's payment.
  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_eventhub" "events" {
  name            = "payments.events"
  namespace_id    = azurerm_eventhub_namespace.paylog.id
  partition_count = var.hub_partitions

  depends_on = [terraform_data.frozen]

  retention_description {
    cleanup_policy          = "Delete"
    retention_time_in_hours = var.retention_hours
  }
}

# A hub of the Standard tier keeps the number of partitions that it was made with, and the order of one payment's events
# hangs on it. It stands here as it was at the first apply; another one is refused in words.
resource "terraform_data" "frozen" {
  input = { hub_partitions = var.hub_partitions }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [input]

    postcondition {
      condition     = self.output.hub_partitions == var.hub_partitions
      error_message = "The hubs were made with ${self.output.hub_partitions} partitions and not ${var.hub_partitions}. The number never changes here: the order of a payment's events follows from it."
    }
  }
}

# A right each, and no more: paylog reads requests and tells of payments, the asker asks.
resource "azurerm_eventhub_authorization_rule" "intake" {
  name                = "paylog-intake"
  namespace_name      = azurerm_eventhub_namespace.paylog.name
  eventhub_name       = azurerm_eventhub.requests.name
  resource_group_name = var.resource_group_name
  listen              = true
  send                = false
  manage              = false
}

resource "azurerm_eventhub_authorization_rule" "asker" {
  name                = "asker"
  namespace_name      = azurerm_eventhub_namespace.paylog.name
  eventhub_name       = azurerm_eventhub.requests.name
  resource_group_name = var.resource_group_name
  listen              = false
  send                = true
  manage              = false
}

resource "azurerm_eventhub_authorization_rule" "notifier" {
  name                = "paylog-notifier"
  namespace_name      = azurerm_eventhub_namespace.paylog.name
  eventhub_name       = azurerm_eventhub.events.name
  resource_group_name = var.resource_group_name
  listen              = false
  send                = true
  manage              = false
}

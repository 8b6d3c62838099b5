resource "azurerm_servicebus_namespace" "paylog" {
  name                = "${var.name}-bus"
  resource_group_name = var.resource_group_name
  location            = var.location
  sku                 = var.service_bus_sku
  minimum_tls_version = "1.2"
  tags                = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

# Messages that start payments. paylog completes one only when its payment is on the log, and moves what it refuses to
# the queue's own dead letters; a message that expires goes there too, for it is somebody's payment. The MessageId is
# the payment's key. No sessions: any instance may take any message.
resource "azurerm_servicebus_queue" "requests" {
  name                                 = "payments.requests"
  namespace_id                         = azurerm_servicebus_namespace.paylog.id
  lock_duration                        = "PT1M"
  max_delivery_count                   = 100
  dead_lettering_on_message_expiration = true
  requires_duplicate_detection         = false
  requires_session                     = false

  lifecycle {
    prevent_destroy = true
  }
}

# Where the notifier's kind `service_bus` tells of payments: the session is the payment, so that its events are taken in
# order, and a delivery that is repeated within the window has the same MessageId and is dropped by the queue.
resource "azurerm_servicebus_queue" "events" {
  name                                    = "payments.events"
  namespace_id                            = azurerm_servicebus_namespace.paylog.id
  lock_duration                           = "PT1M"
  max_delivery_count                      = 10
  dead_lettering_on_message_expiration    = true
  requires_session                        = true
  requires_duplicate_detection            = true
  duplicate_detection_history_time_window = "P7D"
}

resource "azurerm_servicebus_queue_authorization_rule" "intake" {
  name     = "paylog-intake"
  queue_id = azurerm_servicebus_queue.requests.id
  listen   = true
  send     = false
  manage   = false
}

resource "azurerm_servicebus_queue_authorization_rule" "notifier" {
  name     = "paylog-notifier"
  queue_id = azurerm_servicebus_queue.events.id
  listen   = false
  send     = true
  manage   = false
}

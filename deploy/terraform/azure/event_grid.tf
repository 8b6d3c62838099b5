# A custom topic that takes CloudEvents 1.0, as the notifier's kind `event_grid` sends them.
resource "azurerm_eventgrid_topic" "events" {
  name                = "${var.name}-events"
  resource_group_name = var.resource_group_name
  location            = var.location
  input_schema        = "CloudEventSchemaV1_0"
  tags                = var.tags
}

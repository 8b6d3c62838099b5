# Who may do what. A foreign producer may write requests and nothing else: whoever may write to the event topic could
# forge an outcome.
locals {
  roles = { for role in jsondecode(file("${path.module}/../roles.json")) : role.role => role if contains(keys(var.users), role.role) }

  of_topics = flatten([
    for name, role in local.roles : [
      for suffix, operations in role.topics : [
        for operation in operations : {
          user = var.users[name], type = "Topic", name = local.topics[suffix].name, pattern = "Literal", operation = operation
        }
      ]
    ]
  ])

  # The intake's group and the notifier's begin with the processors', and transactional ids with a group. Whoever reads asks for
  # the group's coordinator, though it never joins.
  of_groups = flatten([
    for name, role in local.roles : [
      for suffix, operations in role.groups : [
        for operation in operations : {
          user = var.users[name], type = "Group", name = "${var.group}${suffix}", pattern = "Prefixed", operation = operation
        }
      ]
    ]
  ])

  of_transactions = flatten([
    for name, role in local.roles : [
      for suffix in role.transactions : [
        for operation in ["Write", "Describe"] : {
          user = var.users[name], type = "TransactionalID", name = "${var.group}${suffix}", pattern = "Prefixed", operation = operation
        }
      ]
    ]
  ])

  acls = { for acl in concat(local.of_topics, local.of_groups, local.of_transactions) : join("/", [acl.user, acl.type, acl.name, acl.operation]) => acl }
}

resource "kafka_user_scram_credential" "user" {
  for_each = toset([for role in keys(var.users) : role if contains(nonsensitive(keys(var.passwords)), role)])

  username        = var.users[each.key]
  scram_mechanism = "SCRAM-SHA-512"
  password        = var.passwords[each.key]
}

resource "kafka_acl" "role" {
  for_each = local.acls

  resource_type                = each.value.type
  resource_name                = each.value.name
  resource_pattern_type_filter = each.value.pattern
  acl_principal                = "User:${each.value.user}"
  acl_host                     = "*"
  acl_operation                = each.value.operation
  acl_permission_type          = "Allow"

  depends_on = [kafka_topic.kept, kafka_topic.passing]
}

# Generates C++ code for .proto files below proto/ and wraps it in one library.
#
#   broker_proto_library(<target> [GRPC] [ROOT <folder>] <file relative to proto/>...)
#
# With GRPC the service stubs are generated too. Sources include "sessionbroker/v1/broker.pb.h".
# With ROOT the files are relative to that folder instead.
#
# Written out rather than left to protobuf_generate(), which in CMake 3.25's FindProtobuf takes no
# plugin.
function(broker_proto_library target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "GRPC" "ROOT" "")
  set(proto_dir "${PROJECT_SOURCE_DIR}/proto")
  if(arg_ROOT)
    set(proto_dir "${arg_ROOT}")
  endif()
  set(gen_dir "${PROJECT_BINARY_DIR}/gen")
  file(MAKE_DIRECTORY "${gen_dir}")
  set(all_generated)
  foreach(proto IN LISTS arg_UNPARSED_ARGUMENTS)
    string(REGEX REPLACE "[.]proto$" "" stem "${proto}")
    set(generated "${gen_dir}/${stem}.pb.cc" "${gen_dir}/${stem}.pb.h")
    set(plugin_args)
    set(plugin_deps)
    if(arg_GRPC)
      list(APPEND generated "${gen_dir}/${stem}.grpc.pb.cc" "${gen_dir}/${stem}.grpc.pb.h")
      set(plugin_args "--grpc_out=${gen_dir}"
                      "--plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>")
      set(plugin_deps gRPC::grpc_cpp_plugin)
    endif()
    add_custom_command(
      OUTPUT ${generated}
      COMMAND protobuf::protoc "--proto_path=${proto_dir}" "--cpp_out=${gen_dir}" ${plugin_args}
              "${proto_dir}/${proto}"
      DEPENDS "${proto_dir}/${proto}" protobuf::protoc ${plugin_deps}
      COMMENT "Generating code for ${proto}"
      VERBATIM)
    list(APPEND all_generated ${generated})
  endforeach()

  add_library(${target} STATIC ${all_generated})
  # SYSTEM: generated code is not held to our warnings.
  target_include_directories(${target} SYSTEM PUBLIC "${gen_dir}")
  target_link_libraries(${target} PUBLIC protobuf::libprotobuf broker_sanitizer)
  if(arg_GRPC)
    target_link_libraries(${target} PUBLIC gRPC::grpc++)
  endif()
  target_compile_features(${target} PUBLIC cxx_std_20)
endfunction()
